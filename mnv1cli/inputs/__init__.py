"""From arguments to images: folders, globs, lists, archives, stores and shards."""
