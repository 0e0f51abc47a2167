"""What results say: accuracy, similar images, and how fast this machine is."""
