"""Packaging of lit_tf, as far as it needs code: packages, their data, dependencies, extras.

All else is in pyproject.toml. `pip install .[all]`, or `pip install -e .[dev]` to work on it.
"""

from setuptools import find_packages, setup

# tensorflow-text pins TensorFlow's minor version, so the two move together.
TF = ">=2.20,<2.22"
# tf-models-official and tensorflow-tpu pin it too, and stop at 2.20: so does whoever trains.
TF_TRAIN = ">=2.20,<2.21"

EXTRAS = {
    "train": [
        f"tf-models-official{TF_TRAIN}",
        "tensorflow-datasets>=4.9.9",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without requiring it
        "tensorboard",
        "scikit-learn>=1.3",
        "braceexpand>=0.1.7",  # shard patterns
        "pyarrow>=17",  # Parquet tables of paths and captions
        "jinja2>=3.1",  # the HTML report
        "matplotlib>=3.7",  # and its plots
    ],
    "onnx": ["tf2onnx>=1.16", "onnxruntime>=1.18"],
    "lite": ["ai-edge-litert>=2.1", "ai-edge-quantizer>=0.5"],
    "tpu": [f"tensorflow-tpu{TF_TRAIN}"],
    # The TPU compiler, for machines without a TPU. Its ahead-of-time interface is not a stable one:
    # these are the versions that the preflight was shown to work with.
    "tpu-preflight": [
        f"{package}; python_version >= '3.11'"
        for package in ("jax==0.10.2", "jaxlib==0.10.2", "libtpu==0.0.52")
    ],
    # Beam holds protobuf below 7 and pyarrow below 26, which suits TensorFlow 2.20 but is not
    # forced upon those who precompute on one machine.
    "beam": ["apache-beam>=2.77,<3"],
    # An index of one's own pictures: an embedded database, its tables, its pages.
    "search": [
        *("lancedb>=0.25", "pyarrow>=17", "jinja2>=3.1"),
        *("starlette>=0.40", "uvicorn>=0.30"),
    ],
    # Checkpoint folders that big_vision's trainer writes today.
    "tensorstore": ["tensorstore>=0.1.60"],
    # SigLIP as Hugging Face and open_clip store it, and their hub.
    "huggingface": ["safetensors>=0.4.3", "huggingface_hub>=0.30", "ftfy>=6"],
    # Only to be compared with, and the photos of benchmarks/search.py.
    "bench": ["keras-hub>=0.20", "onnx>=1.16", "onnxruntime>=1.20", "scikit-image>=0.24"],
    # Pictures of iPhones. (AVIF, TIFF and others need nothing more.)
    "heif": ["pillow-heif>=0.16"],
    "demo": ["matplotlib>=3.7", "scikit-learn>=1.3"],
    # `make docs`: the guides and the API reference as a site.
    "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings-python>=1.12"],
    # ipykernel, nbclient and nbformat run the notebook in its test.
    "dev": [
        *("build", "hypothesis", "pytest", "ruff==0.17.*", "scipy", "setuptools>=77", "wheel"),
        *("ipykernel", "nbclient", "nbformat"),
        *("pytest-randomly", "pytest-xdist>=3.7", "pandas", "playwright", "mypy"),
    ],
}
_ALL = ("train", "lite", "onnx", "search", "heif", "tensorstore", "huggingface", "demo", "dev")
EXTRAS["all"] = sorted({requirement for name in _ALL for requirement in EXTRAS[name]})

setup(
    # The two upper storeys live at the top of the repository and are installed below lit_tf, so
    # that no bare `export` or `training` lands in anybody's site-packages.
    package_dir={"lit_tf.export": "export", "lit_tf.training": "training"},
    packages=[
        *find_packages(include=["lit_tf", "lit_tf.*"]),
        *(f"lit_tf.{p}" for p in find_packages(include=["export", "export.*"])),
        *(f"lit_tf.{p}" for p in find_packages(include=["training", "training.*"])),
    ],
    package_data={
        "lit_tf": ["py.typed", "data/*"],
        "lit_tf.search": ["*.html", "*.js", "*.css"],
        "lit_tf.export": ["*.json"],
        "lit_tf.export.web": ["*"],
        "lit_tf.training": ["*/*.html", "*/*.json"],
    },
    install_requires=[
        f"tensorflow{TF}",
        f"tensorflow-text{TF}",
        "keras>=3.10,<4",
        "numpy>=1.26",
        "pillow>=10",  # 11.3 reads AVIF
        "filelock>=3.12",  # downloads and unfinished folders
        "tqdm>=4.60",
    ],
    extras_require=EXTRAS,
)
