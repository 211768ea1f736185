"""Locked against unlocked, in small: does a locked, pre-trained tower know what no caption says?

The paper's claim (arXiv:2111.07991, section 4) on LiT-digits' data: `Lu`, a pre-trained image tower
locked and a text tower from scratch, against `uu`, both towers from scratch on the same captioned
images; once with as many tuning steps, once with as many FLOPs, pre-training counted.

    python -m recipes.digits.study --workdir runs/digits     # after the build, same folder
"""

import argparse
import json
import pathlib

import lit_tf
from lit_tf.files import write_text
from lit_tf.training.preflight import flops

from . import build, measure, pretrain

# Towers from scratch choose their weight decay on the validation split, so they do not lose because
# of a setting that suits a locked one.
WEIGHT_DECAYS = (1e-2, 1e-3)

HEADINGS = ("towers", "tuning steps", "FLOPs in all")
SHOWN = ("ensemble/unseen", "single/unseen/mean", "ensemble/seen", "ink")


def total_flops(config, steps, *, locking, pretraining_steps=0):
    """FLOPs of a run, its image tower's pre-training included.

    Args:
        config: `LitConfig` of the two towers.
        steps: tuning steps at `build.BATCH_SIZE`.
        locking: "Lu" or "uu".
        pretraining_steps: steps of pre-training at `pretrain.BATCH_SIZE`.

    Returns:
        Model FLOPs, as `preflight.flops` counts them.
    """
    lock_image = locking[0] == "L"
    step = flops.train_step(config, build.BATCH_SIZE, lock_image=lock_image)
    pretraining_step = 3 * flops.image_tower(config) * pretrain.BATCH_SIZE
    return steps * step + pretraining_steps * pretraining_step


def main(argv=None):
    """Runs `uu` twice beside the build's `Lu`, measures all, and writes the table into the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/digits", help="where the build left its towers")
    parser.add_argument("--card", default=str(build.DATA / f"{build.NAME}.md"))
    parser.add_argument("--data-dir", help="where tfds keeps its data")
    args = parser.parse_args(argv)
    workdir = pathlib.Path(args.workdir)
    vit, vocab, locked = workdir / "vit.npz", workdir / "vocab.txt", workdir / "Lu" / "final.npz"
    for path in (vit, vocab, locked):
        if not path.exists():
            parser.error(f"{path} is missing: run recipes.digits.build first")

    def measured(checkpoint, split):
        model = lit_tf.load(checkpoint, vocab=vocab)
        return measure.measure_model(model, split, data_dir=args.data_dir)

    def tuned(steps, decay):
        return build.tune(
            workdir / f"uu-{steps}-{decay:g}",
            vit,
            vocab,
            args.data_dir,
            weight_decay=decay,
            locking="uu",
            steps=steps,
        )

    def on_validation(checkpoint):
        figures = measured(checkpoint, "validation")
        return figures["ensemble/seen"] + figures["ensemble/unseen"] + figures["ink"]

    config = lit_tf.load(locked, vocab=vocab).config
    steps, pretraining = build.STEPS, pretrain.STEPS
    spent = total_flops(config, steps, locking="Lu", pretraining_steps=pretraining)
    equal_steps = {decay: tuned(steps, decay) for decay in WEIGHT_DECAYS}
    chosen = max(WEIGHT_DECAYS, key=lambda decay: on_validation(equal_steps[decay]))
    print(f"uu: weight decay {chosen:g} chosen on validation", flush=True)
    more = round(spent / total_flops(config, 1, locking="uu"))

    rows = [("`Lu`", steps, spent, measured(locked, "test"))]
    for name, count, checkpoint in (
        ("`uu`, equal steps", steps, equal_steps[chosen]),
        ("`uu`, equal FLOPs", more, tuned(more, chosen)),
    ):
        flop_count = total_flops(config, count, locking="uu")
        rows.append((name, count, flop_count, measured(checkpoint, "test")))
    write_text(workdir / "study.json", json.dumps(rows, indent=1))
    cells = [(name, f"{count:,}", f"{flop_count:.1e}", f) for name, count, flop_count, f in rows]
    text = measure.markdown_table(HEADINGS, cells, SHOWN)
    print(text)
    build.replace_part(pathlib.Path(args.card), "study", text)


if __name__ == "__main__":
    main()
