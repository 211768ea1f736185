"""How good a model of digit pairs is: the protocol behind the figures in LiT-digits' model card.

All texts are made of phrasings that no training caption uses (`captions.held_out`); all images are
drawn with digits that are in no training image. `validation` is for choosing settings, `test` for
reporting.

    python -m recipes.digits.measure LiT-digits --split test
"""

import argparse
import json
import zlib

import numpy as np

from lit_tf import zero_shot
from lit_tf.errors import extra
from lit_tf.retrieval import recalls
from lit_tf.training.digits import captions, render

# Images in the pool that retrieval searches; no two show the same pair in the same colours.
POOL = 1000


def load_examples(split, config="default", data_dir=None):
    """Returns a split of `digit_pairs` as arrays, prepared on first use.

    Args:
        split: "validation", "test", or any other.
        config: the builder's configuration.
        data_dir: where tfds keeps it, or None for tfds' default.

    Returns:
        {"image": uint8 (N, 32, 64, 3), "label", "left", "right", "ink", "paper": int64 (N,)}.
    """
    with extra("train"):
        import tensorflow_datasets as tfds

    from lit_tf.training.data.tfds_builders import open_tfds

    builder = open_tfds(f"digit_pairs/{config}", data_dir, split)
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, decoders=tfds.decode.PartialDecoding(_FEATURES)
    )
    examples = list(tfds.as_numpy(dataset))
    return {name: np.stack([e[name] for e in examples]) for name in _FEATURES}


_FEATURES = {name: True for name in ("image", "label", "left", "right", "ink", "paper")}


def class_embeddings(encode_text, fillings, phrasings):
    """Embeds classes by every phrasing, and by all of them together.

    Args:
        encode_text: list of N strings -> float32 (N, D), unit length.
        fillings: what a phrasing is filled with, one dict for each of C classes.
        phrasings: T strings.

    Returns:
        (float32 (T, C, D): by each phrasing alone, float32 (C, D): averaged as in `zero_shot`).
    """
    texts = [phrasing.format(**filling) for filling in fillings for phrasing in phrasings]
    z = encode_text(texts)
    classes = np.repeat(np.arange(len(fillings)), len(phrasings))
    together = zero_shot.average_embeddings(z, classes, len(fillings))
    return z.reshape(len(fillings), len(phrasings), -1).transpose(1, 0, 2), together


def measure(encode_image, encode_text, examples, split):
    """Measures a model on one split.

    Args:
        encode_image: uint8 (N, 32, 64, 3) -> float32 (N, D), unit length.
        encode_text: list of N strings -> float32 (N, D), unit length.
        examples: as `load_examples` returns them.
        split: "validation" or "test": which held-out phrasings to use.

    Returns:
        {figure: share of 1}. `ensemble/...` averages all phrasings, `single/...` is about one
        phrasing at a time, always among all 100 pairs; `words/...` is the number in words;
        `single/by_phrasing` is itself a dict.
    """
    zimg = encode_image(examples["image"])
    seen = np.isin(examples["label"], [10 * left + right for left, right in captions.SEEN_PAIRS])
    groups = {"seen": seen, "unseen": ~seen}
    pairs = [captions.fields(*pair) for pair in captions.ALL_PAIRS]
    out = {}

    def right(embeddings, truth):
        return (zimg @ embeddings.T).argmax(axis=1) == truth

    phrasings = captions.held_out("pair", split)
    singles, together = class_embeddings(encode_text, pairs, phrasings)
    hits = right(together, examples["label"])
    single_hits = np.stack([right(z, examples["label"]) for z in singles])  # (T, N)
    words, words_together = class_embeddings(encode_text, pairs, captions.held_out("words", split))
    words_hits = right(words_together, examples["label"])
    for name, group in groups.items():
        out[f"ensemble/{name}"] = hits[group].mean()
        by_phrasing = single_hits[:, group].mean(axis=1)
        out[f"single/{name}/mean"] = by_phrasing.mean()
        out[f"single/{name}/worst"] = by_phrasing.min()
        out[f"words/{name}"] = words_hits[group].mean()
    for kind, names in (("ink", render.INKS), ("paper", render.PAPERS)):
        fillings = [captions.fields(0, 0, **{kind: name}) for name in names]
        singles, together = class_embeddings(encode_text, fillings, captions.held_out(kind, split))
        out[kind] = right(together, examples[kind]).mean()
        out[f"{kind}/single/worst"] = min(right(z, examples[kind]).mean() for z in singles)
    out.update(_retrieval(zimg, encode_text, examples, split))
    out = {name: float(value) for name, value in out.items()}
    unseen = single_hits[:, groups["unseen"]].mean(axis=1)
    out["single/by_phrasing"] = dict(zip(phrasings, map(float, unseen), strict=True))
    return out


def _retrieval(zimg, encode_text, examples, split):
    """Recall@1 and @5 both ways among `POOL` images that differ in pair, ink or paper."""
    keys = np.stack([examples[k] for k in ("label", "ink", "paper")], axis=1)
    # The same pool in whatever order a split is stored.
    order = np.argsort([zlib.crc32(image.tobytes()) for image in examples["image"]], kind="stable")
    _, first = np.unique(keys[order], axis=0, return_index=True)
    pool = order[np.sort(first)[:POOL]]
    inks, papers = list(render.INKS), list(render.PAPERS)
    phrasings = captions.held_out("full", split)
    texts = []
    for k, i in enumerate(pool):
        filling = captions.fields(
            int(examples["left"][i]),
            int(examples["right"][i]),
            inks[examples["ink"][i]],
            papers[examples["paper"][i]],
        )
        texts.append(phrasings[k % len(phrasings)].format(**filling))
    found = recalls(zimg[pool], encode_text(texts), np.arange(len(pool)), ks=(1, 5))
    return {f"retrieval/{name}": value for name, value in found.items()} | {
        "retrieval/pool": len(pool)
    }


def measure_model(model, split="test", config="default", data_dir=None):
    """Measures a `lit_tf.LitModel`; see `measure`."""
    return measure(
        lambda images: model.encode_image(images, batch_size=250),
        lambda texts: model.encode_text(texts, batch_size=500),
        load_examples(split, config, data_dir),
        split,
    )


# What the model card's tables show, and its heading there.
SHOWN = {
    "ensemble/unseen": "never captioned, 16 templates",
    "single/unseen/mean": "never captioned, one template",
    "ensemble/seen": "captioned, 16 templates",
    "ink": "ink",
    "retrieval/img2txt/Recall@1": "image to text, Recall@1",
}


def markdown_table(headings, rows, shown=tuple(SHOWN)):
    """Returns models' figures as a Markdown table.

    Args:
        headings: of the columns before the figures.
        rows: [(a cell for each heading, ..., figures as `measure_model` returns them), ...].
        shown: which figures, names of `SHOWN`.
    """
    heads = [*headings, *(SHOWN[name] for name in shown)]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for *cells, figures in rows:
        shares = [f"{figures[name]:.1%}" for name in shown]
        lines.append("| " + " | ".join([*map(str, cells), *shares]) + " |")
    return "\n".join(lines)


def main(argv=None):
    """Prints the figures of a checkpoint."""
    import lit_tf

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default="LiT-digits")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--data-dir", help="where tfds keeps its data")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    model = lit_tf.load(args.checkpoint)
    figures = measure_model(model, args.split, data_dir=args.data_dir)
    if args.json:
        print(json.dumps(figures, indent=1))
        return
    by_phrasing = figures.pop("single/by_phrasing")
    for name, value in figures.items():
        print(f"{name:<24}{value:8.0f}" if name.endswith("pool") else f"{name:<24}{value:8.1%}")
    print("unseen pairs, by one phrasing:")
    for phrasing, value in sorted(by_phrasing.items(), key=lambda item: item[1]):
        print(f"  {value:6.1%}  {phrasing}")


if __name__ == "__main__":
    main()
