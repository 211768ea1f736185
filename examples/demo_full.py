"""`make demo-full`: the same on a full-size model, LiT-B16B_2, in some minutes.

The published checkpoint if it is in the cache or reachable, else one of the same layout and sizes
with random weights, for which the published JAX code's answers are known.
"""

import shutil
import sys

import demo_tools
import numpy as np
from demo_tools import LOG, OUT, REFERENCE, fixtures, logged, title

import lit_tf
from lit_tf.checkpoints import npz
from lit_tf.errors import DownloadError

FULL = "LiT-B16B_2"


def load_full():
    """Returns (model, checkpoint, whether it is the published one)."""
    try:
        return lit_tf.load(FULL), FULL, True
    except DownloadError as error:
        with logged():
            print(error)
        print(
            f"   The published checkpoint is neither in the cache nor reachable ({LOG} says more)."
        )
    module, path = fixtures(), OUT / f"{FULL}-random.npz"
    shapes, seed = module.shapes(FULL), module.SEEDS[FULL]
    npz.write_npz(path, ((key, module.array(seed, key, shape)) for key, shape in shapes.items()))
    shutil.copy(REFERENCE / "vocab.txt", path.with_suffix(".txt"))
    print(f"   So this is {path}: same layout, same sizes, RANDOM weights.")
    print("   Its answers mean nothing, but its numbers have to be the published JAX code's:")
    return lit_tf.load(path), path, False


def full():
    """The demo on a full-size model; returns what held."""
    title(1, f"{FULL}: ViT-B/16 and BERT base")
    model, checkpoint, published = load_full()
    print(f"   {model.count_params():,} weights")
    held = {}
    if not published:
        pixels, tokens = fixtures().full_size_inputs()
        zimg, ztxt = model({"image": pixels})["image_embedding"], model.encode_tokens(tokens)
        with np.load(REFERENCE / "expected" / "full_size.npz") as expected:
            rows = [
                ("image embeddings", zimg, expected[f"{FULL}/zimg"], 2e-6),
                ("text embeddings", ztxt, expected[f"{FULL}/ztxt"], 2e-6),
            ]
            held["the numbers of the JAX code"] = demo_tools.compare_numbers(rows)

    title(2, "Two photographs" + ("" if published else " (random weights: any answer)"))
    paths, picture = demo_tools.photographs(), OUT / "photographs.png"
    texts = [
        "a photo of a flower",
        "a temple in China",
        "two cats",
        "a red bicycle",
        "a city street",
    ]
    words = ["compare", checkpoint, "--images", *paths, "--texts", *texts, "--plot", picture]
    demo_tools.command(*words, show=True)

    title(3, "One checkpoint, three runtimes")
    quantization = "dynamic_int8"
    served, device = demo_tools.export(checkpoint, quantization)
    print(f"   Which text fits {paths[1].name}? In a process each:")
    asked = demo_tools.ask(model, checkpoint, served, device, paths[1], texts)
    held["runtimes agree"] = demo_tools.compare_answers(asked, quantization, texts)
    return held


if __name__ == "__main__":
    sys.exit(demo_tools.run(full))
