"""Where bytes are: disks, object stores and web servers."""
