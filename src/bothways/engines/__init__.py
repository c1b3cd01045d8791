"""What computes a checkpoint: the seam, and the engines behind it."""
