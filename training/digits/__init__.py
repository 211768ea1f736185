"""The embedded model, `LiT-digits`: its data, its recipe, and how it is measured."""
