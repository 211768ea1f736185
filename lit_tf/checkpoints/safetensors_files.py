"""One `.safetensors` file, or an index and its shards, read with the library safetensors.

The library checks header, offsets and dtypes against the file and never unpickles. Files are mapped
into memory, so what is read is all that a model needs beside its weights.
"""

import contextlib
import pathlib

import ml_dtypes  # noqa: F401, the library's NumPy side then reads bfloat16
import numpy as np

from lit_tf import files
from lit_tf.checkpoints import npz
from lit_tf.errors import CheckpointError, DataError, extra

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


class SafetensorsFiles:
    """The tensors of a file, or of all shards that an index names."""

    def __init__(self, path: pathlib.Path):
        """Opens `path`, a `.safetensors` file or its index; CheckpointError if it is damaged."""
        self.path = path
        self._stack = contextlib.ExitStack()
        try:
            self._tensors = self._open_all()
        except BaseException:
            self._stack.close()
            raise

    def _open_all(self):
        """Returns {name: (open file, its path)}."""
        if self.path.suffix != ".json":
            file = self._open(self.path)
            return {name: (file, self.path) for name in file.keys()}
        weight_map, tensors = self._weight_map(), {}
        for shard in dict.fromkeys(weight_map.values()):
            path = self.path.parent / shard
            file = self._open(path)
            mapped = {n: (file, path) for n, s in weight_map.items() if s == shard}
            if wrong := sorted(set(file.keys()) ^ set(mapped)):
                where = "does not hold" if wrong[0] in mapped else "holds"
                raise CheckpointError(f"{self.path}: {shard} {where} {wrong[0]!r}")
            tensors |= mapped
        return tensors

    def _weight_map(self):
        try:
            found = files.parse_object(self.path.read_bytes(), self.path).get("weight_map")
        except (OSError, DataError) as e:
            raise CheckpointError(str(e)) from None
        if not isinstance(found, dict) or not found:
            raise CheckpointError(f"{self.path}: expected weight_map, an object of file names")
        for name, shard in found.items():
            plain = isinstance(shard, str) and shard == pathlib.PureWindowsPath(shard).name
            if not plain or not shard.endswith(".safetensors"):
                raise CheckpointError(
                    f"{self.path}: {name!r:.80} is said to be in {shard!r:.80}; expected the name "
                    "of a .safetensors file in the same folder"
                )
        return found

    def _open(self, path):
        with extra("huggingface"):
            import safetensors
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file")
        try:
            file = self._stack.enter_context(safetensors.safe_open(path, framework="np"))
        except Exception as e:  # SafetensorError, or what the file system says
            raise CheckpointError(f"{path}: damaged, or not fetched whole: {e}") from None
        for name in file.keys():
            npz.check_key(path, name)
        return file

    def keys(self) -> list[str]:
        return list(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._reading(key, lambda file: file.get_slice(key)).get_shape())

    def dtype(self, key: str) -> str:
        """Returns NumPy's name of a tensor's dtype; CheckpointError if that is not a float."""
        found = self._reading(key, lambda file: file.get_slice(key)).get_dtype()
        if found not in _DTYPES:
            raise CheckpointError(
                f"{self.path}: {key!r} has dtype {found}, expected {', '.join(_DTYPES)}; if this "
                "is a quantized model, take its float file"
            )
        return _DTYPES[found]

    def read(self, key: str) -> np.ndarray:
        """Returns a tensor in the dtype of the file."""
        return self._reading(key, lambda file: file.get_tensor(key))

    def read_rows(self, key: str, start: int, stop: int) -> np.ndarray:
        """Returns some rows of a tensor."""
        return self._reading(key, lambda file: file.get_slice(key)[start:stop])

    def close(self) -> None:
        self._stack.close()

    def _reading(self, key, read):
        file, path = self._tensors[key]
        try:
            return read(file)
        except Exception as e:
            raise CheckpointError(f"{path}: {key!r} cannot be read: {e}") from None
