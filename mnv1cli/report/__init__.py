"""A page to look at instead of rows."""
