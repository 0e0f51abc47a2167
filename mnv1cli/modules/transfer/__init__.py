"""Bytes of modules over HTTP: connections, their pace, and whole downloads."""
