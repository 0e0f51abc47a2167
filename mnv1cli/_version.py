"""The version, on its own so that every file can have it."""

__version__ = "0.1.0"
