"""Image formats: the checks that their decoders leave to their callers."""
