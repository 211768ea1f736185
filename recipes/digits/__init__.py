"""How LiT-digits, the embedded model, is made: pre-training, tuning, and two studies."""
