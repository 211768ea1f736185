"""ONNX graphs of both towers, for Windows, DirectML and every other runtime of ONNX."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ExportError, extra
from lit_tf.model import LitModel

from . import manifest, samples
from .to_tflite import write_vocabulary

MOST_DIFFERENCE = 1e-5  # from the Keras model's embeddings


def onnx(
    model: LitModel, out_dir: str | os.PathLike, *, source: str | os.PathLike | None = None
) -> dict[str, Any]:
    """Writes ONNX graphs of any batch size, the vocabulary and a manifest.

    `image_encoder.onnx` takes `image` uint8 (N, R, R, 3), `text_encoder.onnx` takes `tokens` int32
    (N, L); both return `embedding` float32 (N, D).

    Args:
        model: a `LitModel`.
        out_dir: the folder; replaced only by a complete and verified one.
        source: the checkpoint's path, whose digest the manifest records.

    Returns:
        {file: {"bytes", "max_abs_difference"}}, as in the manifest.

    Raises:
        ExportError: `out_dir` holds something else, or a graph does not agree with the model in
            onnxruntime. Nothing is left behind.
        MissingPackageError: tf2onnx or onnxruntime is not installed.
    """
    samples.check_preprocessing(model)
    model = model.with_dtype("float32")
    files, tokenizing = {}, None
    with manifest.replacing_export(out_dir) as folder:
        if model.image_tower is not None:
            samples.check_squares(model)
            size = model.config.image.image_size
            pixels = samples.resized(model, samples.sample_images(size))
            files["image_encoder.onnx"] = _write(
                folder / "image_encoder.onnx",
                lambda image: model.embed_images(tf.cast(image, tf.float32) * (1 / 127.5) - 1.0),
                tf.TensorSpec([None, size, size, 3], tf.uint8, "image"),
                (pixels, model.image_function(pixels).numpy()),
            )
        if model.text_tower is not None:
            tokens = samples.sample_tokens(model)
            files["text_encoder.onnx"] = _write(
                folder / "text_encoder.onnx",
                model.embed_tokens,
                tf.TensorSpec([None, model.config.token_length], tf.int32, "tokens"),
                (tokens, model.encode_tokens(tokens)),
            )
        if model.tokenizer is not None:
            file = write_vocabulary(model.tokenizer, folder)
            tokenizing = manifest.tokenizing(model.tokenizer, file)
        manifest.write(folder, model, "onnx", source=source, files=files, tokenizing=tokenizing)
    return files


def _write(path, function, spec, sample):
    """Writes the graph of a function of one argument, verified on a sample's (inputs, answers)."""
    with extra("onnx"):
        import onnxruntime
        import tf2onnx

    run = tf.function(lambda x: {"embedding": function(x)}, input_signature=[spec], autograph=False)
    proto, _ = tf2onnx.convert.from_function(run, input_signature=[spec], opset=17)
    path.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, expected = sample
    (found,) = session.run(["embedding"], {spec.name: inputs})
    difference = float(np.abs(found - expected).max())
    if not difference <= MOST_DIFFERENCE:
        raise ExportError(
            f"{path.name} differs from the Keras model by {difference:.2e} in onnxruntime; nothing "
            "was written"
        )
    return {"bytes": path.stat().st_size, "max_abs_difference": difference}
