"""Zero-shot classification and retrieval in the training loop."""

import collections
import dataclasses
import sys

import tensorflow as tf

from lit_tf.errors import ConfigError

from ..data.tfds_builders import NotPreparedError
from . import protocol
from .captioned import open_captioned
from .classification import open_classification
from .encoders import KerasEncoder
from .images import PUBLISHED, Decoding


def _zero_shot(encoder, data, spec, image_cache):
    return protocol.zero_shot(encoder, data, spec.templates, image_cache=image_cache)


def _retrieval(encoder, data, spec, image_cache):
    return protocol.retrieval(encoder, data, image_cache=image_cache)


# Kind, which is also a field of `EvalConfig` -> how its datasets are opened, how it is measured.
KINDS = {"zero_shot": (open_classification, _zero_shot), "retrieval": (open_captioned, _retrieval)}


@dataclasses.dataclass(frozen=True)
class EvaluatorSpec:
    """What an evaluator measures."""

    kind: str
    dataset: str
    templates: str = "clip_paper"
    data_dir: str | None = None
    decoding: Decoding = PUBLISHED

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"evaluator {self.kind!r}: expected one of {', '.join(KINDS)}")


class Evaluator:
    """A dataset on which a model is measured repeatedly while it trains.

    The dataset is opened at once, so a missing one stops the run before it starts. Images are
    embedded again only if the image tower has changed. With a locked tower, they are embedded once.
    """

    def __init__(
        self,
        model,
        spec: EvaluatorSpec,
        strategy: tf.distribute.Strategy | None = None,
        *,
        batch_size: int = 256,
        encoder: KerasEncoder | None = None,
        image_cache: protocol.ImageCache | None = None,
    ):
        self.spec = spec
        self._encoder = encoder or KerasEncoder(model, strategy, batch_size)
        self._images = image_cache or protocol.ImageCache()
        open_data, self._measure = KINDS[spec.kind]
        self.data = open_data(spec.dataset, data_dir=spec.data_dir, decoding=spec.decoding)
        self.prefix = f"{spec.kind}/{self.data.images.name}"

    def run(self) -> dict[str, float]:
        """Measures the model now: {"zero_shot/cifar100/accuracy": share in [0, 1]}."""
        result = self._measure(self._encoder, self.data, self.spec, self._images)
        return {f"{self.prefix}/{name}": value for name, value in result.metrics.items()}


def make_evaluators(
    model,
    config,
    strategy: tf.distribute.Strategy | None = None,
    *,
    decoding: Decoding = PUBLISHED,
    max_patches: int | None = None,
    leave_out: bool = False,
):
    """Returns the evaluators that a run's `EvalConfig` asks for.

    With `leave_out`, those whose data is not on this machine are left out, with a line for each.
    """
    specs = [
        EvaluatorSpec(kind, name, config.templates, config.data_dir, decoding)
        for kind in KINDS
        for name in getattr(config, kind)
    ]
    if not specs:
        return []
    if len(set(specs)) < len(specs):
        raise ConfigError(
            f"eval.zero_shot {', '.join(config.zero_shot)!r} or eval.retrieval "
            f"{', '.join(config.retrieval)!r} names a dataset twice"
        )
    shared = {
        "encoder": KerasEncoder(model, strategy, config.batch_size, max_patches),
        "image_cache": protocol.ImageCache(),
    }
    evaluators = []
    for spec in specs:
        try:
            evaluators.append(Evaluator(model, spec, strategy, **shared))
        except NotPreparedError as error:
            if not leave_out:
                raise
            print(f"eval: {spec.kind} on {spec.dataset} is left out: {error}", file=sys.stderr)
    # Two figures with the same name would show as one. Datasets with the same name (two splits, or
    # two folders) get their names in the config, which are unique.
    names = collections.Counter(evaluator.prefix for evaluator in evaluators)
    for evaluator in evaluators:
        if names[evaluator.prefix] > 1:
            evaluator.prefix = f"{evaluator.spec.kind}/{evaluator.spec.dataset}"
    return evaluators
