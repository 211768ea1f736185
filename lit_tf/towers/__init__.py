"""The towers, their layers, and what these compute with: plainly, for XLA and for TFLite."""
