"""Formats written."""
