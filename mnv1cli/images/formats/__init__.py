"""Image formats, and what their decoders leave to their callers."""
