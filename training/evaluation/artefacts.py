"""Encoders of exported SavedModels and TFLite graphs, read only through their signatures."""

import hashlib
import os
import pathlib
import reprlib

import tensorflow as tf

from lit_tf.errors import DataError, extra
from lit_tf.files import parse_object, sha256
from lit_tf.images.preparation import Square
from lit_tf.texts.tokenizers import tokenizer_from_bytes

from .encoders import Encoder

# The fields read from `lit_manifest.json`, and their types; numbers are above 0.
_NONE = type(None)
_MANIFEST = {
    "model": (str,),
    "crop": (bool,),
    "resolution": (int, _NONE),
    "temperature": (int, float, _NONE),
    "lowercase": (bool, _NONE),
}


class _ArtefactEncoder(Encoder):
    """An exported artefact, read only through its signatures and its manifest."""

    def __init__(self, folder: str | os.PathLike, batch_size: int = 64):
        self.folder, self.batch_size = pathlib.Path(folder), batch_size
        path = self.folder / "lit_manifest.json"
        try:
            manifest = parse_object(path.read_bytes(), path)
        except OSError as e:
            wanted = f"expected what `lit-tf export` wrote, with {path.name} in it"
            raise DataError(f"{folder}: {wanted}: {e!r}") from e
        for key, kinds in _MANIFEST.items():
            value = manifest.get(key)
            number = type(value) in (int, float)
            if type(value) not in kinds or (number and not 0 < value < 1 << 31):
                raise DataError(f"{path} is damaged: {key} is {reprlib.repr(value)}; export again")
        if manifest.get("patch_size") is not None:
            raise DataError(
                f"{folder} holds a NaFlex model, whose exports cannot be evaluated; evaluate its "
                "checkpoint: lit-tf eval CKPT --max-patches N"
            )
        self.manifest = manifest
        self.model_name = manifest["model"]

    def fingerprint(self, tower):
        digest = hashlib.sha256(self.name.encode())
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and self._belongs(path, tower):
                digest.update(str(path.relative_to(self.folder)).encode())
                digest.update(sha256(path).encode())
        return digest.hexdigest()

    def _belongs(self, path, tower):
        return True


class SavedModelEncoder(_ArtefactEncoder):
    """A SavedModel with the signatures `encode_image` and `encode_text`; see `_ArtefactEncoder`."""

    name = "saved_model"

    def __init__(self, folder, batch_size=64):
        super().__init__(folder, batch_size)
        size = self.manifest.get("resolution")
        if size is None:
            raise DataError(f"{folder}/lit_manifest.json is damaged: it has no resolution")
        self.prepare = Square(size, self.manifest["crop"], self.manifest.get("resample"))
        import tensorflow_text  # noqa: F401  the model needs the tokenizer's ops to load

        try:
            self._loaded = tf.saved_model.load(str(self.folder))
        except (OSError, ValueError, tf.errors.OpError) as e:
            raise DataError(f"{folder}: no SavedModel that loads: {e}") from e
        missing = {"encode_image", "encode_text"} - set(self._loaded.signatures)
        if missing:
            raise DataError(
                f"{folder} has no signature {' or '.join(sorted(missing))}: evaluation needs a "
                "model exported with both parts"
            )
        sides = _sides_in_graph(self._loaded.signatures["encode_image"])
        if sides - {size}:
            raise DataError(
                f"{folder}/lit_manifest.json is of another export: its resolution is "
                f"{size}, but the graph's image tower takes images of "
                f"{', '.join(map(str, sorted(sides)))} pixels; export again"
            )
        temperature = getattr(self._loaded, "temperature", None)
        if temperature is not None:
            self.temperature = float(tf.reshape(temperature, []))

    def _embed_pixels(self, pixels):
        out = self._loaded.signatures["encode_image"](image=tf.constant(pixels))
        return out["embedding"].numpy()

    def _embed_strings(self, texts):
        out = self._loaded.signatures["encode_text"](text=tf.constant(texts))
        return out["embedding"].numpy()


def _sides_in_graph(signature):
    """Returns the sides of the square RGB images that the functions in a graph take."""
    functions = signature.graph.as_graph_def().library.function
    arguments = [arg.attr["_output_shapes"] for f in functions for arg in f.arg_attr.values()]
    shapes = [[d.size for d in shape.dim] for arg in arguments for shape in arg.list.shape]
    return {s[1] for s in shapes if len(s) == 4 and s[3] == 3 and s[1] == s[2] > 0}


class TFLiteEncoder(_ArtefactEncoder):
    """`image_encoder.tflite` and `text_encoder.tflite`, with the vocabulary beside them."""

    name = "tflite"

    def __init__(self, folder, batch_size=64):
        super().__init__(folder, batch_size)
        self._image, shape = self._open("image_encoder.tflite", "image")
        self._text, tokens = self._open("text_encoder.tflite", "tokens")
        self.prepare = Square(int(shape[1]), self.manifest["crop"])
        self.temperature = self.manifest.get("temperature")
        vocab, how = self._vocabulary(), (int(tokens[1]), bool(self.manifest.get("lowercase")))
        kind = "bert" if str(vocab).endswith(".txt") else "sentencepiece"
        self._tokenize = tokenizer_from_bytes(kind, vocab, *how)

    def _open(self, file, name):
        with extra("lite"):
            from ai_edge_litert.interpreter import Interpreter

        path = self.folder / file
        if not path.is_file():
            raise DataError(f"{self.folder} has no {file}: evaluation needs both encoders")
        try:
            interpreter = Interpreter(str(path), num_threads=os.cpu_count())
            runner = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
            return runner, runner.get_input_details()[name]["shape"]
        except (ValueError, RuntimeError, KeyError, StopIteration) as e:
            raise DataError(f"{path}: no TFLite graph with an input {name!r}: {e!r}") from e

    def _vocabulary(self):
        found = [
            path
            for path in sorted(self.folder.iterdir())
            if path.suffix == ".model" or path.suffix == ".txt" and path.stem != "labels"
        ]
        if len(found) != 1:
            raise DataError(
                f"{self.folder}: expected one vocabulary (.txt or .model) beside the graphs, found "
                f"{len(found)}"
            )
        return found[0]

    def _belongs(self, path, tower):
        return path.name == f"{tower}_encoder.tflite" or (
            tower == "text" and path == self._vocabulary()
        )

    def _embed_pixels(self, pixels):
        return self._image(image=pixels)["embedding"]

    def _embed_strings(self, texts):
        return self._text(tokens=self._tokenize(texts).numpy())["embedding"]
