"""Writers of results, one for each format."""
