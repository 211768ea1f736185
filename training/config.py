"""The config of a run: typed, checked, and read from a Python file with big_vision's arguments.

`lit_coco:txt=bert_base,img=B/16` calls `get_config` of `configs/lit_coco.py` with the arguments
after the colon, and `--set optimizer.lr=3e-4` changes one field of what it returned. Unknown
arguments and unknown fields are refused.
"""

import ast
import dataclasses
import importlib.util
import inspect
import math
import os
import pathlib
import re
import reprlib
import sys
import traceback
import types
import typing
import warnings

from lit_tf.contrastive.config import LOCKINGS, LOSSES, SOFTMAX, LossConfig, OptimizerConfig, number
from lit_tf.errors import ConfigError, LitError, nearest
from lit_tf.images.formats import MAX_PIXELS

CONFIGS = pathlib.Path(__file__).parent / "configs"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The two towers and where they start.

    Attributes:
        init: a whole LiT checkpoint to start from (name, path or URL), or None.
        image: the image tower: a variant such as "B/16", or sizes such as
            "patch_size=8,width=96,depth=5,num_heads=3,mlp_dim=384" (and ",pool=attention" at the
            end for attention pooling), or that of a published model or a local checkpoint. The
            sizes in `image_init` win.
        image_init: checkpoint of the image tower (AugReg or any other with one), or None.
        image_head: give the image tower a linear head too.
        text: the text tower: "bert_base", "bert_large", "bert:width=128,..." or
            "transformer:width=192,..." with sizes, "B" and the like for a transformer of that size,
            or that of a published model or a local checkpoint. The sizes in `text_init` win.
        text_init: checkpoint of the text tower (a TF1 BERT folder or any other), or None.
        vocab: the vocabulary, or None for the one beside the text tower's checkpoint.
        resolution: side of the images in pixels.
        token_length: tokens of a text.
        dropout: dropout rate of a BERT in training.
        locking: two letters, image tower first: L locked, U tuned from pre-trained, u from scratch
            (the paper's section 3.2); LH tunes the text tower's head, temperature and bias alone.
        temperature: where the temperature starts, if not with `init`. It trains unclipped.
        bias: where the logits' bias starts, or None for none. For the sigmoid loss.
    """

    init: str | None = None
    image: str = "B/16"
    image_init: str | None = None
    image_head: bool = False
    text: str = "bert_base"
    text_init: str | None = None
    vocab: str | None = None
    resolution: int = number(224, 1)
    token_length: int = number(16, 1)
    dropout: float = number(0.1, 0, 0.99)
    locking: str = "LU"
    temperature: float = number(10.0, 1e-6, 1e6)
    bias: float | None = None

    @property
    def lock_image(self) -> bool:
        """Whether the image tower is locked."""
        return self.locking[0] == "L"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The training data.

    Attributes:
        source: a tfds dataset ("coco_captions"), or a pattern of shards ("gs://b/cc12m/*.tar",
            "/data/*.tfrecord"), or a table of image paths and captions ("pairs.csv", ".tsv",
            ".jsonl", ".parquet"), or the folder that `lit-tf precompute` wrote.
        format: "tfds", "tar", "tfrecord", "table", "embeddings", or "auto" to tell by the
            source's name.
        split: split of a tfds dataset, slices as in "train[:90%]" included.
        data_dir: where tfds keeps its data, or None for its default.
        image_key: feature (tfds), member's extension (tar), field (TFRecord) or column
            (table) of the image.
        text_key: the same of the text, nested names as in "captions/text".
        augment: steps of augmentation on uint8 images in order: "flip_lr", "randaug(2,10)", joined
            by "|"; empty for none, which precomputed embeddings need (augmented views are stored).
        shuffle_buffer: examples to shuffle among.
        exif: whether to turn images as their EXIF orientation says, in training and its
            evaluators. The published protocol does not.
        max_pixels: width times height of the largest image that is decoded. Larger ones count as
            undecodable.
        max_patches: of a NaFlex image tower: the most patches of an image, 256 if None.
        max_bad_share: share of bad examples beyond which a run stops: undecodable images, empty
            captions, and what is lost with damaged shards.
        max_example_bytes: size of the largest member of a tar or record of a TFRecord to read.
            Larger ones count as bad.
    """

    source: str = "coco_captions"
    format: str = "auto"
    split: str = "train"
    data_dir: str | None = None
    image_key: str = "image"
    text_key: str = "captions/text"
    augment: str = ""
    shuffle_buffer: int = number(50_000, 1)
    max_bad_share: float = number(0.01, 0, 1)
    max_example_bytes: int = number(128 << 20, 1)
    exif: bool = False
    max_pixels: int = number(MAX_PIXELS, 1)
    max_patches: int | None = number(None, 1)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluators in the loop.

    Attributes:
        every: steps between evaluations, 0 for none but at the end.
        zero_shot: datasets of zero-shot classification.
        retrieval: datasets of retrieval.
        validation: where to take a contrastive validation loss from, or None: a split of the
            training dataset (tfds), or other shards or another folder of the same format.
        templates: prompt templates.
        batch_size: global batch of the evaluators.
        data_dir: where tfds keeps their data, or None for its default.
        keep_best: a figure such as "zero_shot/cifar100/accuracy" or "validation/loss", or None. The
            model with the best one is kept as `best.npz`: the smallest, if its name ends in "loss".
    """

    every: int = number(0, 0)
    zero_shot: tuple[str, ...] = ()
    retrieval: tuple[str, ...] = ()
    validation: str | None = None
    templates: str = "clip_best"
    batch_size: int = number(256, 1)
    data_dir: str | None = None
    keep_best: str | None = None


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A whole run.

    Attributes:
        name: what the run is called.
        model: the two towers.
        data: the training data.
        optimizer: the optimizer.
        loss: the loss.
        eval: evaluators in the loop.
        batch_size: global batch.
        steps: steps of the run.
        seed: of shuffling, augmentation, dropout and whatever starts from scratch.
        dtype: compute precision, "bfloat16" or "float32". Parameters and loss are float32.
        steps_per_loop: steps per host call.
        checkpoint_every: steps between checkpoints; a multiple of `steps_per_loop`. They come at
            its multiples, at SIGTERM and at the end. A run killed before the first begins again.
        keep_checkpoints: how many of them to keep.
        deterministic: make every op repeat bit for bit (a little slower).
    """

    name: str = "lit"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    eval: EvalConfig = EvalConfig()
    batch_size: int = number(4096, 1)
    steps: int = number(5000, 1)
    seed: int = number(0, 0, 2**31 - 1)
    dtype: str = "bfloat16"
    steps_per_loop: int = number(50, 1, 2**31 - 1)
    checkpoint_every: int = number(1000, 1)
    keep_checkpoints: int = number(3, 1)
    deterministic: bool = True

    @property
    def dtype_policy(self) -> str:
        """The Keras policy of `dtype`: parameters stay float32."""
        return "mixed_bfloat16" if self.dtype == "bfloat16" else self.dtype

    def to_dict(self) -> dict:
        """Returns nested dicts of plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """The inverse of `to_dict`; unknown keys and values of a wrong type are refused."""
        return _from_dict(cls, values)


def check(config: TrainConfig) -> None:
    """Refuses a config that could only fail later."""
    loss = SOFTMAX if ":" in config.loss.name else config.loss.name  # "module:function"
    for field, value, allowed in (
        ("model.locking", config.model.locking, LOCKINGS),
        ("loss.name", loss, LOSSES),
        ("dtype", config.dtype, ("bfloat16", "float32")),
    ):
        if value not in allowed:
            found = reprlib.repr(value)
            raise ConfigError(f"{field} is {found}; expected one of {', '.join(allowed)}")
    _check_ranges(config)
    config.optimizer.check(config.steps)
    checkpoints, evaluations = config.checkpoint_every, config.eval.every
    for name, every in (("checkpoint_every", checkpoints), ("eval.every", evaluations)):
        if every % config.steps_per_loop:
            raise ConfigError(
                f"{name} ({every}) is not a multiple of steps_per_loop ({config.steps_per_loop}): "
                "checkpoints are written and evaluators run between host calls"
            )
    if config.model.bias is not None and config.loss.name == SOFTMAX:
        raise ConfigError("model.bias is set, but a softmax loss cannot train it; set it to None")
    if config.batch_size == 1 and config.loss.name == SOFTMAX:
        raise ConfigError(
            "batch_size is 1, at which the softmax loss is always 0: it compares the pairs of a "
            "batch; expected at least 2"
        )


def _check_ranges(part, prefix=""):
    """Refuses numbers outside of the ranges that their fields declare."""
    for field in dataclasses.fields(part):
        value, name = getattr(part, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{name}.")
        elif "range" in field.metadata and value is not None:
            low, high = field.metadata["range"]
            if not low <= value <= high:
                expected = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
                raise ConfigError(f"{name} is {value}; expected {expected}")


def check_batch(config: TrainConfig, replicas: int) -> None:
    """As `check`; also batches that replicas cannot share, and chunks that do not divide theirs."""
    check(config)
    if config.batch_size % replicas:
        raise ConfigError(
            f"batch_size {config.batch_size} is not divisible by {replicas} replicas; "
            f"{config.batch_size // replicas * replicas or replicas} would be"
        )
    local = config.batch_size // replicas
    for field in ("chunk", "cache_chunk"):
        chunk = getattr(config.loss, field)
        if chunk and local % chunk:
            raise ConfigError(
                f"loss.{field} {chunk} does not divide the batch of one replica, {local} "
                f"({config.batch_size} over {replicas})"
            )


def add_config(parser, more: str = "", **several) -> None:
    """Adds `--config` and `--set` to a command's arguments."""
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME:ARGS",
        help="a shipped config or a Python file, with big_vision's arguments, such as "
        f"lit_coco:txt=bert_base,img=B/16{more}",
        **several,
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a field of the config, as in optimizer.lr=3e-4; may be repeated",
    )


def load_config(spec: str, overrides: typing.Sequence[str] = ()) -> TrainConfig:
    """Returns the resolved config of a `--config` and its `--set`s."""
    name, _, argument = spec.partition(":")
    path = _config_file(name)
    values = _get_config(path, argument).to_dict()
    for override in overrides:
        _override(values, override)
    config = TrainConfig.from_dict(values)
    check(config)
    return config


def _get_config(path, argument):
    """Returns what `get_config` of a file returns. What fails in it is explained with its line.

    The file's package holds its neighbours, and then the shipped configs.
    """
    folder = str(path.resolve().parent)
    package = types.ModuleType("lit_tf_configs")
    package.__path__ = [folder, str(CONFIGS)]
    name = f"{package.__name__}.{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    before, search = set(sys.modules), list(sys.path)
    sys.modules.update({package.__name__: package, name: module})
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
        takes = inspect.signature(module.get_config).parameters
        if argument and not takes:
            raise ConfigError(f"{path}: get_config takes no argument, found {argument!r}")
        config = module.get_config(*([argument] if takes else []))
        if not isinstance(config, TrainConfig):
            raise ConfigError(
                f"{path}:{module.get_config.__code__.co_firstlineno}: get_config returns a "
                f"{type(config).__name__}; expected a lit_tf.training.config.TrainConfig"
            )
        return config
    except LitError:
        raise
    except Exception as error:
        raise ConfigError(_located(error, path)) from error
    finally:
        sys.path[:] = search
        for name in set(sys.modules) - before:  # or the next config would get these neighbours
            file = getattr(sys.modules[name], "__file__", None) or ""
            if name.startswith(package.__name__) or os.path.dirname(file) == folder:
                del sys.modules[name]


def _located(error, path):
    """Returns where in a config's file, or in its neighbours, an error arose, and what it is."""
    folder, where = str(path.resolve().parent), str(path)
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename.startswith(folder + os.sep):
                where = f"{frame.filename}:{frame.lineno}"
    return f"{where}: {type(error).__name__}: {error}"


def _config_file(name):
    path = pathlib.Path(name)
    if not (path.suffix == ".py" and path.is_file()):
        path = CONFIGS / f"{path.stem if path.suffix == '.py' else path.name}.py"
    if not path.is_file() or path.stem.startswith("_"):
        shipped = sorted(p.stem for p in CONFIGS.glob("*.py") if not p.stem.startswith("_"))
        raise ConfigError(
            f"no config {reprlib.repr(name)}: neither a Python file nor one of {', '.join(shipped)}"
            f"{nearest(path.stem, shipped)}"
        )
    return path


def _override(values, override):
    """Sets one field of a config's nested dicts, as "optimizer.lr=3e-4" says."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {reprlib.repr(override)} is not of the form key=value")
    *groups, field = key.split(".")
    place = values
    for group in groups:
        place = place.get(group) if isinstance(place, dict) else None
    if not isinstance(place, dict) or field not in place:
        near = nearest(key[:200], flat(values))
        raise ConfigError(f"unknown config key {reprlib.repr(key)}{near}")
    if isinstance(place[field], dict):
        raise ConfigError(f"{key} is a group of {', '.join(place[field])}; set one of them")
    value = _parse(text)
    if value is not None and not isinstance(value, str) and str in _kinds(groups, field):
        value = text  # `--set data.source=1e3` means these words
    place[field] = value


def _kinds(groups, field):
    kind = TrainConfig
    for name in (*groups, field):
        kind = typing.get_type_hints(kind)[name]
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def parse_arguments(argument: str, **defaults) -> types.SimpleNamespace:
    """Parses big_vision's "key=value,flag" against the arguments that a config knows."""
    values = dict(defaults)
    for item in filter(None, (argument or "").split(",")):
        key, equals, text = item.partition("=")
        if key not in defaults:
            raise ConfigError(
                f"unknown config argument {reprlib.repr(key)}; known: {', '.join(defaults)}"
                f"{nearest(key[:200], defaults)}"
            )
        value = _parse(text) if equals else True
        default = defaults[key]
        if isinstance(default, str) and not isinstance(value, str):
            value = text
        kind = type(default)
        if default is not None and not _has_type(value, kind):
            raise ConfigError(f"config argument {reprlib.repr(item)}: expected {kind.__name__}")
        values[key] = kind(value) if kind is float else value
    return types.SimpleNamespace(**values)


def parse_sizes(text: str, known: typing.Collection[str]) -> dict[str, int]:
    """Returns {name: int} of "width=96,depth=5"."""
    sizes = {}
    for item in text.split(","):
        key, _, value = item.partition("=")
        if key not in known or not re.fullmatch("[0-9]{1,9}", value):
            raise ConfigError(
                f"tower size {reprlib.repr(item)}: expected NAME=INTEGER with a name of "
                f"{', '.join(known)}"
            )
        sizes[key] = int(value)
    return sizes


def _parse(text):
    """The Python value that a text denotes; the text itself if it denotes none."""
    constants = {"true": True, "false": False, "none": None}
    if len(text) > 1000:  # no value of a config is so long a number or so deeply nested
        return text
    if text.lower() in constants:
        return constants[text.lower()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of texts that are nearly its numbers
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def _has_type(value, kind):
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max  # an int may be larger; NaN is not
    if kind is int and isinstance(value, int) and abs(value) >= 1 << 63:
        return False
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _from_dict(cls, values, prefix=""):
    kinds, made = typing.get_type_hints(cls), {}
    for key, value in values.items():
        if key not in kinds:
            raise ConfigError(f"unknown config key {prefix + key!r}{nearest(key, kinds)}")
        if dataclasses.is_dataclass(kinds[key]):
            made[key] = _from_dict(kinds[key], value, f"{prefix}{key}.")
        else:
            made[key] = _coerce(value, kinds[key], prefix + key)
    return cls(**made)


def _coerce(value, kind, name):
    if typing.get_args(kind)[:1] == (tuple[str, float],):
        try:
            return tuple((str(pattern), float(factor)) for pattern, factor in value)
        except (TypeError, ValueError):
            raise ConfigError(
                f'{name} is {reprlib.repr(value)}; expected pairs, as in [("txt/head/.*", 10.0)]'
            ) from None
    if typing.get_origin(kind) is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(i, str) for i in items):
            return tuple(i for i in items if i)
        raise ConfigError(f"{name} is {reprlib.repr(value)}; expected texts joined by commas")
    options = typing.get_args(kind) or (kind,)
    for option in options:
        if option is type(None):
            if value is None:
                return None
        elif _has_type(value, option):
            return option(value)
    expected = " or ".join("none" if o is type(None) else o.__name__ for o in options)
    raise ConfigError(f"{name} is {reprlib.repr(value)}; expected {expected}")


def flat(values: dict, prefix="") -> dict:
    """Returns {"optimizer.lr": 0.001, ...} of a config's nested dicts."""
    found = {}
    for key, value in values.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        found |= inner
    return found
