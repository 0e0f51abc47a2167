"""Modules trained for other classes."""
