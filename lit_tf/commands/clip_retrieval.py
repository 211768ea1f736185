"""Embeddings in the folders that clip-retrieval reads (github.com/rom1504/clip-retrieval).

`clip-retrieval index` and `clip-retrieval back` take a folder in which row i of
`img_emb/img_emb_0.npy` belongs to row i of `metadata/metadata_0.parquet`, whose column `image_path`
says which image it is; for texts `text_emb/text_emb_0.npy` and the column `caption`. The names are
those of its writer (clip_inference/writer.py) for a single partition.
"""

import os
import pathlib

import numpy as np

from lit_tf import files
from lit_tf.errors import ConfigError, extra

# kind -> (folder, column)
_NAMES = {"image": ("img_emb", "image_path"), "text": ("text_emb", "caption")}


def check_folder(folder: str | os.PathLike) -> None:
    """Raises an error if `write` could not write a folder; to be called before any work.

    All partitions that stand in a folder belong to one collection, so an older one must not.
    """
    with extra("search"):
        import pyarrow  # noqa: F401
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir() or not folder.absolute().parent.is_dir():
        raise ConfigError(f"{folder} cannot be written: it is a file, or its parent does not exist")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; expected a new folder")


def write(folder: str | os.PathLike, kind: str, embeddings: np.ndarray, names: list[str]) -> None:
    """Writes embeddings (N, D) of a kind, "image" or "text", and the N paths or texts."""
    with extra("search"):
        import pyarrow as pa
        import pyarrow.parquet

    check_folder(folder)
    subfolder, column = _NAMES[kind]
    # Parquet holds UTF-8 only; other bytes of a file's name are escaped.
    texts = [os.fsencode(n).decode("utf-8", "backslashreplace") for n in names]
    table = pa.table({column: pa.array(texts, pa.string())})
    with files.replacing_folder(folder) as new:
        for name in ("metadata", subfolder):
            (new / name).mkdir()
        pyarrow.parquet.write_table(table, new / "metadata" / "metadata_0.parquet")
        embeddings = np.ascontiguousarray(embeddings, np.float32)
        np.save(new / subfolder / f"{subfolder}_0.npy", embeddings)
