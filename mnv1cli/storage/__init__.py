"""Places of bytes: disks, object stores and web servers."""
