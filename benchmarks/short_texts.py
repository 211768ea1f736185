"""Texts at their own length against texts filled up to 16 tokens: class prompts, BERT base.

Both sides get the same tokens: names of a sample of ImageNet's classes in the 81 templates of
`clip_paper`. BERT's own vocabulary is not part of this repository. The one here keeps the words of
the templates whole and cuts longer words of class names in two. BERT's does so with rare ones only.
"""

import argparse
import importlib.resources
import re
import sys
import tempfile

import numpy as np
import tensorflow as tf
from timing import best_times, verdict

from lit_tf import zero_shot
from lit_tf.config import BertConfig, LitConfig
from lit_tf.model import LitModel
from lit_tf.texts.files import read_lines
from lit_tf.texts.tokenizers import tokenizer_from_bytes

LENGTH, BATCH = 16, 256
BERT = BertConfig(
    vocab_size=30522, width=768, depth=12, num_heads=12, mlp_dim=3072, max_length=512, out_dim=768
)
WHOLE = 6  # characters of a class name's word that is not cut


def class_prompts(step):
    """Returns the prompts of every `step`-th class of ImageNet, and all words of class names."""
    path = importlib.resources.files("lit_tf") / "data" / "imagenet_names.txt"
    names = zero_shot.list_class_names(read_lines(path)).canonical[::step]
    prompts, _ = zero_shot.make_prompts(names, "clip_paper")
    return prompts, {word for name in names for word in re.findall(r"\w+", name)}


def vocabulary(prompts, name_words):
    """Returns the lines of a vocabulary: whole words of the templates, halves of longer names."""
    words = {word for prompt in prompts for word in re.findall(r"\w+", prompt)}
    cut = {word for word in name_words if len(word) > WHOLE}
    halves = {half for w in cut for half in (w[: len(w) // 2], f"##{w[len(w) // 2 :]}")}
    special = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*special, *sorted((words - cut) | halves)]


def main():
    """Runs the benchmark; returns whether the bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=100, help="take every n-th of 1,000 classes")
    parser.add_argument("--rounds", type=int, default=3, help="timed passes over all prompts")
    args = parser.parse_args()
    prompts, name_words = class_prompts(args.every)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(vocabulary(prompts, name_words)) + "\n")
        file.flush()
        tokenizer = tokenizer_from_bytes("bert", file.name, LENGTH)
    model = LitModel(LitConfig(image=None, text=BERT), tokenizer)
    fixed_function = tf.function(model.embed_tokens, autograph=False)

    def fixed():
        tokens = model.tokenize(prompts)
        starts = range(0, len(tokens), BATCH)
        return np.concatenate([fixed_function(tokens[i : i + BATCH]).numpy() for i in starts])

    def ours():
        return model.encode_text(prompts, BATCH)

    tokens = model.tokenize(prompts)
    mean = (tokens != 0).sum(axis=1).mean()
    print(f"{len(prompts)} prompts, {mean:.1f} tokens on average, batches of {BATCH}")
    difference = np.abs(ours() - fixed()).max()
    print(f"largest difference of an embedding: {difference:.1e}")
    times = best_times({"fixed": fixed, "ours": ours}, args.rounds)
    for name, seconds in times.items():
        print(f"  {name:6s} {len(prompts) / seconds:8.1f} texts/s")
    fast = verdict("encode_text / 16 fixed tokens", times["fixed"] / times["ours"], 1.6)
    return fast and difference <= 1e-6


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
