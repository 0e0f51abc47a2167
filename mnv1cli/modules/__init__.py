"""Modules of TensorFlow Hub: found, fetched, kept, checked, built."""
