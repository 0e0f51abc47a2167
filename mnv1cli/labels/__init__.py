"""Class names."""
