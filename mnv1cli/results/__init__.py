"""Results: their formats, files, metadata and datasets."""
