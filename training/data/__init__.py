"""Input: image-text pairs from tfds, shards or tables, or precomputed embeddings.

    source -> shuffled, endless stream of undecoded records -> decode, augment -> batches

Every batch is a pure function of (seed, step): a run that was killed and resumed at step k sees
exactly the batches k, k + 1, ... that it would have seen. `stream` explains how much a resumed run
has to read, and `pipeline` what happens to records that cannot be used.
"""

from .counters import Counters
from .pipeline import make_train_dataset, make_validation_dataset
from .sources import open_source
