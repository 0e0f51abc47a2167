"""Runs over images: the loop, its outputs, and what makes it resumable."""
