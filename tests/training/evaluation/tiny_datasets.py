"""Tiny datasets that tfds itself reads: the real builders' features, with data made on the spot."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def write(name, splits, data_dir):
    """Prepares a tfds dataset offline.

    Args:
        name: of a builder that tfds has; features, configuration and version are the real ones.
        splits: {split: list of examples}.
        data_dir: where tfds will look for it.
    """
    real = tfds.builder_cls(name.split("/")[0])
    real_builder = tfds.builder(name, data_dir=data_dir)

    with tfds.core.registered.skip_registration():

        class Tiny(real):
            pkg_dir_path = getattr(real, "pkg_dir_path", None)

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(rows) for split, rows in splits.items()}

            def _generate_examples(self, rows):
                yield from enumerate(rows)

    Tiny.name = real.name
    config = real_builder.builder_config
    kwargs = {"config": config.name} if config and len(real.BUILDER_CONFIGS) > 1 else {}
    builder = Tiny(data_dir=data_dir, **kwargs)
    if name == "cifar100":  # whose names are in a file of the download
        builder.info.features["label"].names = CIFAR100_NAMES
        builder.info.features["coarse_label"].names = [f"coarse {i}" for i in range(20)]
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            register_checksums=False, compute_stats=tfds.download.ComputeStatsMode.SKIP
        )
    )


CIFAR100_NAMES = [f"thing_{i:02d}" for i in range(100)]


def picture(seed, height=24, width=32):
    """Returns a smooth uint8 picture (height, width, 3) that differs from seed to seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 8.0
    phase = rng.uniform(0, 6, (2, 3))
    return np.uint8(127 + 120 * np.sin(x[..., None] * phase[0] + y[..., None] + phase[1]))


def encode(pixels, kind="PNG"):
    """Returns a file object with an encoded image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    file.seek(0)
    return file


def save(path, pixels):
    """Writes an image file."""
    Image.fromarray(pixels).save(path)


def raw(data):
    """Returns a file object with bytes that tfds stores as they are."""
    return io.BytesIO(data)
