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
MOST_BYTES = 2**31 - 2**24  # of a tower's weights: a file is one protocol buffer, below 2 GiB


def onnx(
    model: LitModel,
    out_dir: str | os.PathLike,
    *,
    max_patches: int | None = None,
    source: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Writes ONNX graphs of any batch size, the vocabulary and a manifest.

    `image_encoder.onnx` takes `image` uint8 (N, R, R, 3), or of NaFlex what `tflite`'s graph takes;
    `text_encoder.onnx` takes `tokens` int32 (N, L). Both return `embedding` float32 (N, D).

    Args:
        model: a `LitModel`.
        out_dir: the folder; replaced only by a complete and verified one.
        max_patches: of a NaFlex model, as in `tflite`.
        source: the checkpoint's path, whose digest the manifest records.

    Returns:
        {file: {"bytes", "max_abs_difference"}}, as in the manifest.

    Raises:
        ExportError: `out_dir` holds something else, or a graph does not agree with the model in
            onnxruntime. Nothing is left behind.
        MissingPackageError: tf2onnx or onnxruntime is not installed.
    """
    samples.check_preprocessing(model)
    max_patches = samples.most_patches(model, max_patches)
    for tower in filter(None, (model.image_tower, model.text_tower)):
        size = 4 * tower.count_params()
        if size > MOST_BYTES:
            what = f"the {tower.name} has {size / 1e9:.1f} GB in float32, and an ONNX file holds"
            advice = "export TFLite graphs, a SavedModel, or a smaller model"
            raise ExportError(f"{what} less than 2 GiB; {advice}")
    model = model.with_dtype("float32")
    files = {}
    with manifest.replacing_export(out_dir) as folder:
        if model.image_tower is not None:
            pictures = samples.sample_images(model.config.image.image_size)
            given = samples.prepared(model, pictures, max_patches=max_patches)
            path, want = folder / "image_encoder.onnx", samples.embedded(model, given)
            embed, specs = samples.embed_function(model, given, None)
            files[path.name] = _write(path, embed, specs, given, want)
        if model.text_tower is not None:
            tokens = samples.sample_tokens(model)
            path, want = folder / "text_encoder.onnx", model.encode_tokens(tokens)
            specs = [tf.TensorSpec([None, model.config.token_length], tf.int32, "tokens")]
            files[path.name] = _write(path, model.embed_tokens, specs, {"tokens": tokens}, want)
        tokenizing = write_vocabulary(model.tokenizer, folder)
        more = {"files": files, "tokenizing": tokenizing, "max_patches": max_patches}
        manifest.write(folder, model, "onnx", source=source, **more)
    return files


def _write(path, function, specs, given, want):
    """Writes the graph of a function of tensors, verified on given ones and the wanted answer."""
    with extra("onnx"):
        import onnxruntime
        import tf2onnx

    def run(*tensors):
        return {"embedding": function(*tensors)}

    run = tf.function(run, input_signature=specs, autograph=False)
    proto, _ = tf2onnx.convert.from_function(run, input_signature=specs, opset=17)
    path.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["embedding"], given)
    difference = float(np.abs(found - want).max())
    if not difference <= MOST_DIFFERENCE:
        what = f"{path.name} differs from the Keras model by {difference:.2e} in onnxruntime"
        raise ExportError(f"{what}; nothing was written")
    return {"bytes": path.stat().st_size, "max_abs_difference": difference}
