"""Input: image-text pairs from tfds, shards or tables, or precomputed embeddings.

Every batch is a pure function of (seed, step), so a resumed run sees the batches that it would have
seen. `stream` says how, and `pipeline` what happens to records that cannot be used.
"""

from lit_tf import lazy

from .counters import Counters
from .pipeline import make_train_dataset, make_validation_dataset
from .sources import open_source

__getattr__, __dir__ = lazy.attributes(__name__, {})
