"""Image embeddings of a whole dataset, computed once with a locked tower."""
