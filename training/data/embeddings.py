"""Stored image embeddings: their manifest, and the tower that they come from."""

import os

from lit_tf.errors import DataError
from lit_tf.files import parse_object, read_bytes

MANIFEST = "manifest.json"


def read_manifest(folder: str) -> dict:
    """Returns the manifest of precomputed embeddings."""
    path = os.path.join(folder, MANIFEST)
    try:
        manifest = parse_object(read_bytes(path), path)
    except FileNotFoundError as e:
        raise DataError(
            f"no {path}: not a folder of precomputed embeddings, or `lit-tf precompute` has not "
            "finished; run its command again to continue"
        ) from e
    try:
        sizes = [manifest["views"], manifest["width"], manifest["resolution"]]
        counts = [*sizes, *(s["examples"] for s in manifest["shards"])]
        names = [manifest["image_tower"], manifest["settings"]["checkpoint"]]
        names += [s["name"] for s in manifest["shards"]]
        whole = all(type(n) is int and 0 <= n < 1 << 63 for n in counts) and min(sizes) > 0
        whole = whole and all(isinstance(name, str) for name in names)
    except (TypeError, KeyError):
        whole = False
    if not whole:
        raise DataError(
            f"{path} is damaged: expected views, width, resolution, image_tower, settings and "
            "shards with name and examples; remove it and run `lit-tf precompute` again, which "
            "keeps the shards"
        )
    return manifest


def tower_of(model) -> str:
    """Returns what tells image towers apart: their weights, and whose pixels they take."""
    config = model.config
    other = config.crop or config.resample is not None
    pixels = f" {config.preprocessing}, {config.resample}, crop {config.crop}" if other else ""
    return model.fingerprint("img/") + pixels


def check_embeddings(source, model) -> None:
    """Refuses stored embeddings that were not made by the model's image tower."""
    manifest, folder = source.manifest, source.config.source
    side = model.config.image.image_size
    if manifest["resolution"] != side:
        raise DataError(
            f"{folder} holds embeddings of images of {manifest['resolution']} pixels, but "
            f"model.resolution is {side}; change it, or precompute again with this config"
        )
    if manifest["image_tower"] != tower_of(model):
        raise DataError(
            f"{folder} holds embeddings of another image tower, or of other pixels, from "
            f"{manifest['settings']['checkpoint']}; train with that one (model.image_init or "
            "model.init), or precompute again with this run's"
        )
