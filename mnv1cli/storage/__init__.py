"""Storage of files: disks, object stores and web servers."""
