"""`digit_pairs`: pairs of real handwritten digits, in colour, with English captions; offline."""

import dataclasses
import re

import numpy as np

from lit_tf.errors import DataError, extra

from ..evaluation.recipes import Prompts, Recipe
from . import captions, render

with extra("train"):
    import tensorflow_datasets as tfds

_DESCRIPTION = """
Pairs of real handwritten digits (scikit-learn's copy of UCI's "Optical Recognition of Handwritten
Digits"), side by side on a 32 x 64 canvas, in one of eight inks on one of six papers, with captions
in English. Generated deterministically and without a network.

`pretrain` has images of all 100 ordered pairs, labels, and no captions; `train` has captions, and
only of 80 pairs; `validation` and `test` have all 100 pairs, drawn with digits that are in no other
split, and captions in phrasings that `train` does not use.
"""

_CITATION = """@misc{misc_optical_recognition_of_handwritten_digits_80,
  author = {Alpaydin, E. and Kaynak, C.}, title = {{Optical Recognition of Handwritten Digits}},
  year = {1998}, howpublished = {UCI Machine Learning Repository}, doi = {10.24432/C50P49}}"""

# Images of each pair.
_PER_PAIR = {"pretrain": 600, "train": 250, "validation": 20, "test": 50}
_CAPTIONS_PER_IMAGE = 6
_CHUNK = 1000


def pair_prompts(split: str) -> Prompts:
    """Returns the 100 ordered pairs of digits, in phrasings that no training caption uses."""
    phrasings = captions.held_out("pair", "validation" if "validation" in split else "test")
    return Prompts(
        texts=[
            p.format(**captions.fields(*pair)) for pair in captions.ALL_PAIRS for p in phrasings
        ],
        labels=[i for i in range(len(captions.ALL_PAIRS)) for _ in phrasings],
        class_names=[f"{left}{right}" for left, right in captions.ALL_PAIRS],
        groups={
            "seen": [10 * left + right for left, right in captions.SEEN_PAIRS],
            "unseen": [10 * left + right for left, right in captions.UNSEEN_PAIRS],
        },
    )


SPLITS = ("pretrain", "train", "validation", "test")


@dataclasses.dataclass
class _Config(tfds.core.BuilderConfig):
    per_pair: dict[str, int] = dataclasses.field(default_factory=dict)


class DigitPairs(tfds.core.GeneratorBasedBuilder):
    """The dataset behind `LiT-digits`.

    Features: `image` uint8 (32, 64, 3); `captions` as in `coco_captions` (`id` and `text`; empty in
    `pretrain`); `label`, the number from "00" to "99"; `left`, `right`, the digits; `ink`, `paper`;
    `digits`, the positions of the two images in `sklearn.datasets.load_digits()`.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.0.0": "The data of the first LiT-digits.",
        "1.1.0": "More captions speak of both digits; training digits are altered less.",
    }
    RECIPE = Recipe(prompts=pair_prompts)
    BUILDER_CONFIGS = [
        _Config(
            name="default",
            description="What LiT-digits is trained and measured on.",
            per_pair=_PER_PAIR,
        ),
        _Config(
            name="tiny",
            description="A few images of each pair, for tests.",
            per_pair={"pretrain": 2, "train": 4, "validation": 1, "test": 2},
        ),
        # Most users read one split. These spare them the minutes that the others take to draw.
        *(
            _Config(
                name=split,
                description=f"The split {split} of `default` alone, the same to the bit.",
                per_pair={split: _PER_PAIR[split]},
            )
            for split in SPLITS
        ),
    ]

    def for_split(self, split: str) -> "DigitPairs":
        """Returns the builder that has a split, or part of one, and no more than need be."""
        names = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"\[.*?\]", "", split)))
        if not names or names - set(SPLITS):
            raise DataError(
                f"{self.name} has no split {split!r}; it has {', '.join(SPLITS)}, and parts of "
                "them such as test[:1000]"
            )
        if self.builder_config.name != "default" or len(names) > 1 or self.is_prepared():
            return self
        return DigitPairs(config=names.pop(), data_dir=self._data_dir_root)

    def _info(self):
        # Not dataset_info_from_configs(): it looks below lit_tf/, where an editable install has
        # no training/.
        f = tfds.features
        features = {
            "image": f.Image(shape=(render.HEIGHT, render.WIDTH, 3), encoding_format="png"),
            "captions": f.Sequence({"id": np.int64, "text": f.Text()}),
            "label": f.ClassLabel(names=[f"{n:02d}" for n in range(100)]),
            "left": f.ClassLabel(names=list(captions.DIGITS)),
            "right": f.ClassLabel(names=list(captions.DIGITS)),
            "ink": f.ClassLabel(names=list(render.INKS)),
            "paper": f.ClassLabel(names=list(render.PAPERS)),
            "digits": f.Tensor(shape=(2,), dtype=np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            features=f.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.builder_config.per_pair}

    def _generate_examples(self, split):
        # Every split has a generator of its own, so it is the same whether others are drawn or not.
        rng = np.random.default_rng([2111_07991, SPLITS.index(split)])
        pairs = captions.SEEN_PAIRS if split == "train" else captions.ALL_PAIRS
        pairs = np.repeat(np.array(pairs), self.builder_config.per_pair[split], axis=0)
        pairs = rng.permutation(pairs)
        digits_of = {"pretrain": "train"}.get(split, split)
        inks, papers = list(render.INKS), list(render.PAPERS)
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            left = render.choose_digits(chunk[:, 0], digits_of, rng)
            right = render.choose_digits(chunk[:, 1], digits_of, rng)
            ink = rng.integers(len(inks), size=len(chunk))
            paper = rng.integers(len(papers), size=len(chunk))
            augment = split in ("pretrain", "train")
            images = render.draw(left, right, ink, paper, rng, augment)
            for i, pair in enumerate(chunk.tolist()):
                described = (*pair, inks[ink[i]], papers[paper[i]])
                texts = []
                if split == "train":
                    draws = range(_CAPTIONS_PER_IMAGE)
                    texts = [captions.training_caption(*described, rng) for _ in draws]
                elif split != "pretrain":
                    texts = captions.held_out_captions(*described, split)
                number = start + i
                first = number * _CAPTIONS_PER_IMAGE
                named = [{"id": first + k, "text": t} for k, t in enumerate(texts)]
                about = {"label": 10 * pair[0] + pair[1], "left": pair[0], "right": pair[1]}
                about |= {"ink": int(ink[i]), "paper": int(paper[i])}
                about["digits"] = np.array([left[i], right[i]], np.int64)
                yield number, {"image": images[i], "captions": named, **about}
