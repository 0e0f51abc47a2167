"""The machine: cores, threads, signals and temporary files."""
