"""Zero-shot classification and retrieval in the training loop."""

import collections
import sys

from lit_tf.errors import ConfigError

from ..data.tfds_builders import NotPreparedError
from . import protocol
from .captioned import open_captioned
from .classification import open_classification
from .encoders import KerasEncoder
from .images import PUBLISHED

# Kind, which is also a field of `EvalConfig` -> how its datasets are opened.
KINDS = {"zero_shot": open_classification, "retrieval": open_captioned}


class Evaluator:
    """A dataset, opened at once, on which a model is measured repeatedly while it trains."""

    def __init__(self, kind, dataset, config, opening, encoder, image_cache):
        self.kind, self.dataset = kind, dataset
        self._encoder, self._templates, self._cache = encoder, config.templates, image_cache
        self.data = KINDS[kind](dataset, data_dir=config.data_dir, **opening)
        self.prefix = f"{kind}/{self.data.images.name}"  # of its figures' names

    def run(self) -> dict[str, float]:
        """Measures the model now: {"zero_shot/cifar100/accuracy": share in [0, 1]}."""
        about, how = (self._encoder, self.data), {"image_cache": self._cache}
        if self.kind == "zero_shot":
            result = protocol.zero_shot(*about, self._templates, **how)
        else:
            result = protocol.retrieval(*about, **how)
        return {f"{self.prefix}/{name}": value for name, value in result.metrics.items()}


def make_evaluators(
    model, config, strategy=None, *, decoding=PUBLISHED, max_patches=None, leave_out=False
) -> list[Evaluator]:
    """Returns the evaluators of an `EvalConfig`; `leave_out` those whose data is not here."""
    wanted = [(kind, name) for kind in KINDS for name in getattr(config, kind)]
    if not wanted:
        return []
    if len(set(wanted)) < len(wanted):
        raise ConfigError(
            f"eval.zero_shot {', '.join(config.zero_shot)!r} or eval.retrieval "
            f"{', '.join(config.retrieval)!r} names a dataset twice"
        )
    encoder = KerasEncoder(model, strategy, config.batch_size, max_patches)
    cache, evaluators = protocol.ImageCache(), []
    opening = {"decoding": decoding, "download": not leave_out}  # COCO alone takes 25 GB
    for kind, name in wanted:
        try:
            evaluators.append(Evaluator(kind, name, config, opening, encoder, cache))
        except NotPreparedError as error:
            if not leave_out:
                raise
            print(f"eval: {kind} on {name} is left out: {error}", file=sys.stderr)
    # Two figures with the same name would show as one. Datasets with the same name (two splits, or
    # two folders) get their names in the config, which are unique.
    names = collections.Counter(evaluator.prefix for evaluator in evaluators)
    for evaluator in evaluators:
        if names[evaluator.prefix] > 1:
            evaluator.prefix = f"{evaluator.kind}/{evaluator.dataset}"
    return evaluators
