"""`NAME.json` beside NAME.npz: what a model's configuration has and its arrays do not show.

Readers infer these fields by rules, such as BERT's heads from its width. The file is written only
where a rule gives another value than the model has. The JAX code bases do not read it.
"""

import json
import pathlib

from lit_tf import files
from lit_tf.checkpoints.shapes import canonical_shapes, config_from_shapes, field_value
from lit_tf.config import LitConfig
from lit_tf.errors import CheckpointError, DataError

# {field that no array shows: its type}
FIELDS = {
    "image.image_size": int,
    "text.num_heads": int,  # of BERT; the other kernels show theirs
    "text.dropout_rate": float,
    "token_length": int,
    "lowercase": bool,
    "crop": bool,
    "preprocessing": str,
    "resample": str,
}
_KEY = "lit_tf"  # tells the file from other people's JSON


def path_of(checkpoint) -> pathlib.Path:
    """Returns where the record of a checkpoint NAME.npz lies."""
    return pathlib.Path(checkpoint).with_suffix(".json")


def unsaid(config: LitConfig) -> dict:
    """Returns {field: value} of what reading the arrays alone would get wrong."""
    try:
        read = config_from_shapes(canonical_shapes(config), layout="", source="")
    except CheckpointError:  # no rule fits, so all of it is recorded
        read = None
    found = {field: field_value(config, field) for field in FIELDS}
    return {k: FIELDS[k](v) for k, v in found.items() if v not in (None, field_value(read, k))}


def sentence(config: LitConfig, name: str) -> str | None:
    """Returns what to tell whoever writes the model as `name`, or None if nothing is lost."""
    fields = ", ".join(f"{field} {value}" for field, value in unsaid(config).items())
    if not fields:
        return None
    return (
        f"{name}: its arrays do not show {fields}. lit_tf reads that from {path_of(name).name} "
        "beside it; keep the two together. big_vision and vit_jax do not know it"
    )


def to_bytes(config: LitConfig) -> bytes | None:
    """Returns the record of a model, or None if it needs none."""
    fields = unsaid(config)
    return json.dumps({_KEY: fields}, indent=1).encode() + b"\n" if fields else None


def read(path: pathlib.Path) -> dict:
    """Returns {field: value} of a record; {} if there is none, or the JSON is another program's."""
    if not path.is_file():
        return {}
    try:
        found = files.parse_object(path.read_bytes(), path)
    except (OSError, DataError) as e:
        raise CheckpointError(
            f"{e}. It lies where lit_tf notes what {path.stem}.npz does not show; restore it, or "
            "move it away if it is another program's"
        ) from None
    if _KEY not in found:
        return {}
    fields = found[_KEY]
    if not isinstance(fields, dict) or set(fields) - set(FIELDS):
        raise CheckpointError(
            f"{path}: expected {_KEY!r} to hold some of {', '.join(FIELDS)}; found {fields!r:.200}"
        )
    for field, value in fields.items():
        if type(value) is not (kind := FIELDS[field]):
            raise CheckpointError(f"{path}: {field} is {value!r:.80}, expected {kind.__name__}")
    return fields
