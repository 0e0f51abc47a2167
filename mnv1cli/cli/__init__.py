"""The command line: it folds options and calls the library."""
