"""Results analysed: their accuracy, similar images, and the speed of this machine."""
