"""SavedModels and TFLite graphs out of a LiT model."""
