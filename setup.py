"""Packaging of lit_tf: `pip install .[all]`, or `pip install -e .[dev]` to work on it."""

import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent

# tensorflow-text and tf-models-official pin TensorFlow's minor version, so the three move together.
TF = ">=2.20,<2.21"

EXTRAS = {
    "train": [
        f"tf-models-official{TF}",
        "tensorflow-datasets>=4.9.9",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without requiring it
        "tensorboard",
        "scikit-learn>=1.3",
        "pillow",
        "braceexpand>=0.1.7",  # shard patterns
        "pyarrow>=17",  # Parquet tables of paths and captions
        "jinja2>=3.1",  # the HTML report
        "matplotlib>=3.7",  # and its plots
    ],
    "lite": ["ai-edge-litert>=2.1", "ai-edge-quantizer>=0.5"],
    "tpu": [f"tensorflow-tpu{TF}"],
    # The TPU compiler, for machines without a TPU. Its ahead-of-time interface is not a stable one:
    # these are the versions that the preflight was shown to work with.
    "tpu-preflight": [
        f"{package}; python_version >= '3.11'"
        for package in ("jax==0.10.2", "jaxlib==0.10.2", "libtpu==0.0.52")
    ],
    # Beam holds protobuf below 7 and pyarrow below 26, which suits TensorFlow 2.20 but is not
    # forced upon those who precompute on one machine.
    "beam": ["apache-beam>=2.77,<3"],
    # An index of one's own pictures: an embedded database, its tables and its page.
    "search": ["lancedb>=0.25", "pyarrow>=17", "pillow", "jinja2>=3.1"],
    # Checkpoint folders that big_vision's trainer writes today.
    "tensorstore": ["tensorstore>=0.1.60"],
    "bench": ["keras-hub>=0.20"],  # only to be compared with
    "demo": ["matplotlib>=3.7", "pillow", "scikit-learn>=1.3"],
    # ipykernel, nbclient and nbformat run the notebook in its test.
    "dev": [
        *("build", "hypothesis", "pytest", "ruff==0.17.*", "scipy", "setuptools", "wheel"),
        *("ipykernel", "nbclient", "nbformat"),
        *("pytest-xdist>=3.6", "pandas", "playwright", "mypy"),
    ],
}
EXTRAS["all"] = sorted(
    {r for name in ("train", "lite", "search", "tensorstore", "demo", "dev") for r in EXTRAS[name]}
)

setup(
    name="lit_tf",
    version="0.1.0",
    description="LiT (Locked-image text Tuning) for TensorFlow: Keras, SavedModel, TFLite, TPU.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    # The two upper storeys live at the top of the repository and are installed below lit_tf, so
    # that no bare `export` or `training` lands in anybody's site-packages.
    package_dir={"lit_tf.export": "export", "lit_tf.training": "training"},
    packages=[
        *find_packages(include=["lit_tf", "lit_tf.*"]),
        *(f"lit_tf.{p}" for p in find_packages(include=["export", "export.*"])),
        *(f"lit_tf.{p}" for p in find_packages(include=["training", "training.*"])),
    ],
    package_data={"lit_tf": ["data/*"], "lit_tf.export": ["*.json"]},
    install_requires=[
        f"tensorflow{TF}",
        f"tensorflow-text{TF}",
        "keras>=3.10,<4",
        "numpy>=1.26",
        "tqdm>=4.60",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["lit-tf=lit_tf.cli:main"]},
)
