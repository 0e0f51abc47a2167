"""From pixels to logits, labels and feature vectors."""
