"""LiT (Locked-image text Tuning, arXiv:2111.07991) for TensorFlow."""
