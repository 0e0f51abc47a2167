"""Training of modules for classes of one's own."""
