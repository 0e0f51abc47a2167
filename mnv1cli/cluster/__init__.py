"""Runs that a Ray cluster does."""
