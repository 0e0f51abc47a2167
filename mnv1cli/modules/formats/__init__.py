"""The file formats in which modules and their weights come."""
