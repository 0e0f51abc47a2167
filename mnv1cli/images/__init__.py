"""Images: read from files, decoded, turned, cropped and resized to pixels."""
