"""Rebuilds LiT-digits from nothing: data, image tower, tuning, measurement, model card.

    make digits-model            # or: python -m recipes.digits.build --workdir runs/digits

Every step can be run alone. This file calls them in order, rounds the result to float16, and ships
it only if it meets the bars.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
import time

import lit_tf
from lit_tf.files import replacing_path, write_text
from lit_tf.training.configs import digits
from lit_tf.training.digits import captions
from lit_tf.training.distribution import strategies
from lit_tf.training.train import train

from . import measure, pretrain

DATA = pathlib.Path(lit_tf.__file__).parent / "data"
NAME = "LiT-digits"
MAX_BYTES = 3_000_000

# Of tuning; the rest of the recipe is `--config digits`.
STEPS, BATCH_SIZE = 500, 256

# What a shipped model must reach on the test split.
BARS = {
    "ensemble/seen": 0.92,
    "ensemble/unseen": 0.90,
    "single/unseen/mean": 0.80,
    "ink": 0.99,
}

# Rows of the model card's table: figure and what it says.
ROWS = {
    "ensemble/seen": "80 captioned pairs, 16 templates averaged",
    "ensemble/unseen": "**20 never-captioned pairs, 16 templates averaged**",
    "single/seen/mean": "80 captioned pairs, one template: mean",
    "single/seen/worst": "80 captioned pairs, one template: worst",
    "single/unseen/mean": "20 never-captioned pairs, one template: mean",
    "single/unseen/worst": "20 never-captioned pairs, one template: worst",
    "words/seen": 'captioned pairs as a number in words ("thirty-six"), 4 templates averaged',
    "words/unseen": "never-captioned pairs as a number in words, 4 templates averaged",
    "ink": "ink colour among 8, 6 templates averaged",
    "ink/single/worst": "ink colour, one template: worst",
    "paper": "paper colour among 6, 4 templates averaged",
    "retrieval/img2txt/Recall@1": "image to text, Recall@1 in a pool of 1,000",
    "retrieval/txt2img/Recall@1": "text to image, Recall@1 in a pool of 1,000",
}


def tune(workdir, vit, vocab, data_dir=None, *, weight_decay=None, **arguments):
    """Tunes the text tower from the start and returns the path of the run's final.npz.

    Args:
        workdir: the run's folder; a run that is in it is deleted.
        vit: checkpoint of the pre-trained image tower.
        vocab: the vocabulary.
        data_dir: where tfds keeps its data, or None for its default.
        weight_decay: the optimizer's, or None for the recipe's.
        **arguments: further arguments of `--config digits`, such as `steps` or `locking`.
    """
    arguments = {"steps": STEPS, "batch_size": BATCH_SIZE, **arguments}
    config = digits.make_config(str(vit), str(vocab), data_dir=data_dir or "", **arguments)
    if weight_decay is not None:
        optimizer = dataclasses.replace(config.optimizer, weight_decay=weight_decay)
        config = dataclasses.replace(config, optimizer=optimizer)
    # Otherwise a finished run would only be resumed, though its data may have changed.
    shutil.rmtree(workdir, ignore_errors=True)
    train(config, workdir, strategy=strategies.make_strategy())
    return pathlib.Path(workdir) / "final.npz"


def write_card(figures, path):
    """Replaces the table of figures in the model card."""
    table = ["| measured on test digits | accuracy |", "| --- | --- |"]
    table += [f"| {text} | {figures[name]:.1%} |" for name, text in ROWS.items()]
    replace_part(path, "figures", "\n".join(table))


def replace_part(path, name, text):
    """Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a file."""
    card = path.read_text(encoding="utf-8")
    before, start, rest = card.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not start or not end:
        raise ValueError(f"{path} has no part <!-- {name} --> ... <!-- /{name} -->")
    write_text(path, f"{before}{start}{text}\n{end}{after}")


def unmet(figures):
    """Returns a line for each bar that the figures do not reach."""
    return [
        f"{name} is {figures[name]:.1%}, below {bar:.0%}"
        for name, bar in BARS.items()
        if figures[name] < bar
    ]


def main(argv=None):
    """Builds, measures, and ships the model if it meets the bars. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/digits", help="for the towers and the run")
    parser.add_argument("--out", default=str(DATA), help="folder that the model is shipped to")
    parser.add_argument("--data-dir", help="where tfds keeps its data")
    args = parser.parse_args(argv)
    workdir, out = pathlib.Path(args.workdir), pathlib.Path(args.out)
    workdir.mkdir(parents=True, exist_ok=True)
    start = time.time()

    print("1/4 data and image tower", flush=True)
    vit, vocab = workdir / "vit.npz", workdir / "vocab.txt"
    pretrain.build(vit, data_dir=args.data_dir)
    write_text(vocab, "\n".join(captions.vocabulary()) + "\n")

    print(f"2/4 tuning the text tower ({time.time() - start:.0f} s so far)", flush=True)
    final = tune(workdir / "Lu", vit, vocab, args.data_dir)

    print(f"3/4 rounding to float16 and measuring ({time.time() - start:.0f} s)", flush=True)
    rounded = workdir / f"{NAME}.npz"
    lit_tf.save_npz(lit_tf.load(final, vocab=vocab), rounded, dtype="float16")
    figures = measure.measure_model(lit_tf.load(rounded), "test", data_dir=args.data_dir)
    write_text(workdir / "figures.json", json.dumps(figures, indent=1))
    for name, text in ROWS.items():
        print(f"  {figures[name]:6.1%}  {text.replace('*', '')}")
    faults = unmet(figures)
    size = rounded.stat().st_size
    if size > MAX_BYTES:
        faults.append(f"{rounded} has {size:,} bytes, more than {MAX_BYTES:,}")
    if faults:
        print("not shipped: " + "; ".join(faults), file=sys.stderr)
        return 1

    print(f"4/4 shipping {size:,} bytes ({time.time() - start:.0f} s in all)", flush=True)
    for suffix in (".npz", ".txt"):
        with replacing_path(out / f"{NAME}{suffix}") as beside:
            shutil.copyfile(rounded.with_suffix(suffix), beside)
    if (out / f"{NAME}.md").exists():
        write_card(figures, out / f"{NAME}.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
