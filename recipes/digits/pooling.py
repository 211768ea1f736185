"""SigLIP's parts on LiT-digits' data: attention pooling and the sigmoid loss, beside the recipe.

Two image towers of the same size are pre-trained alike: the shipped one, pooled by its class token,
and one pooled by attention. A text tower is tuned to each, once by the softmax and once by the
sigmoid loss, all for as many steps as the shipped model.

    python -m recipes.digits.pooling --workdir runs/digits
"""

import argparse
import dataclasses
import json
import pathlib

import lit_tf
from lit_tf.contrastive.config import SIGMOID, SOFTMAX
from lit_tf.files import write_text

from . import build, measure, pretrain

TOWER = dataclasses.replace(pretrain.TOWER, pool="attention")
HEADINGS = ("image tower", "loss")


def main(argv=None):
    """Pre-trains the pooled tower, tunes four text towers, and writes the table into the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/digits", help="for the towers and the runs")
    parser.add_argument("--card", default=str(build.DATA / f"{build.NAME}.md"))
    parser.add_argument("--data-dir", help="where tfds keeps its data")
    parser.add_argument("--pretraining-steps", type=int, default=pretrain.STEPS)
    parser.add_argument("--steps", type=int, default=build.STEPS, help="steps of tuning")
    args = parser.parse_args(argv)
    workdir = pathlib.Path(args.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    shipped, vocab = (build.DATA / f"{build.NAME}{suffix}" for suffix in (".npz", ".txt"))
    towers = {"class token": shipped, "attention": workdir / "vit_attention.npz"}
    pretrain.build(towers["attention"], args.pretraining_steps, args.data_dir, TOWER)
    rows = []
    for pooling, vit in towers.items():
        for loss in (SOFTMAX, SIGMOID):
            run = workdir / f"{pooling.replace(' ', '_')}-{loss}"
            final = build.tune(run, vit, vocab, args.data_dir, loss=loss, steps=args.steps)
            model = lit_tf.load(final, vocab=vocab)
            figures = measure.measure_model(model, "test", data_dir=args.data_dir)
            rows.append((pooling, loss, figures))
            print(measure.markdown_table(HEADINGS, rows[-1:]).splitlines()[-1], flush=True)
    write_text(workdir / "pooling.json", json.dumps(rows, indent=1))
    text = measure.markdown_table(HEADINGS, rows)
    print(text)
    build.replace_part(pathlib.Path(args.card), "pooling", text)


if __name__ == "__main__":
    main()
