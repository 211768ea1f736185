"""TFLite graphs for devices: builtin operations, any batch size, quantized and measured."""

import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ExportError, extra, positive_integer
from lit_tf.model import LitModel
from lit_tf.texts import vocabularies
from lit_tf.towers.layers import tracing_for_tflite

from . import manifest, names, quantize, samples, self_test, verify
from .names import DYNAMIC_INT8, FLOAT16, INT8, MIN_RUNTIMES, NEWEST, NONE, QUANTIZATIONS

# Below this mean cosine to the Keras model's embeddings, nothing is written.
LEAST_COSINE = {NONE: 0.99999, FLOAT16: 0.9999, DYNAMIC_INT8: 0.999, INT8: 0.99}


def tflite(
    model: LitModel,
    out_dir: str | os.PathLike,
    *,
    quantization: str = DYNAMIC_INT8,
    batch: int | None = None,
    min_runtime: str = NEWEST,
    max_patches: int | None = None,
    classes: Iterable[str] | None = None,
    templates: str | os.PathLike | Sequence[str] = "clip_best",
    calibration: Any = None,
    source: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Writes TFLite graphs, the vocabulary, labels and a manifest, all verified in LiteRT alone.

    The graphs are `image_encoder.tflite`, `text_encoder.tflite`, `text_encoder_strings.tflite` and
    `zero_shot.tflite` (if classes are given). `text_encoder_strings.tflite` needs a vocabulary that
    TFLite's tokenizers read as the library does. Otherwise it is left out, and a warning and the
    manifest say so.

    Args:
        model: a `LitModel`.
        out_dir: the folder; replaced only by a complete and verified one.
        quantization: `none`, `float16` (weights), `dynamic_int8` (weights, and activations at run
            time) or `int8` (both, which needs `calibration` for the image tower).
        batch: the fixed batch size of the graphs, for which 1 is best on a GPU or NPU; None for
            any, chosen at run time.
        min_runtime: the oldest TFLite that the graphs are for. With `2.14`, graphs are slower.
        max_patches: of a NaFlex model, see `encode_image`; the image graphs' for good. They take
            `patches`, `coordinates` and `mask`, as `lit_tf.images.naflex.padded` makes them.
        classes: class names for `zero_shot.tflite`, or a `lit_tf.few_shot.Classifier`.
        templates: prompt templates for `classes`.
        calibration: images (anything `encode_image` takes) to measure activations on, or what
            `samples.prepared` returned.
        source: the checkpoint's path, whose digest the manifest records.

    Returns:
        {file: {"bytes", "min_cosine", "mean_cosine", "delegation", ...}}, as in the manifest.

    Raises:
        ExportError: the model lacks a required part, `out_dir` holds something else, or the export
            does not agree with the model. Nothing is left behind.
    """
    names.check("quantization", quantization, QUANTIZATIONS)
    names.check("min_runtime", min_runtime, MIN_RUNTIMES)
    batch = None if batch is None else positive_integer(batch, "batch", ExportError)
    samples.check_preprocessing(model)
    options = {"quantization": quantization, "batch": batch, "min_runtime": min_runtime}
    has_image = model.image_tower is not None
    max_patches = samples.most_patches(model, max_patches)
    if has_image and calibration is not None and not isinstance(calibration, dict):
        calibration = samples.prepared(model, calibration, max_patches=max_patches)
    if quantization == INT8 and has_image and not calibration:
        raise ExportError("quantization int8 needs calibration images, such as 100 of your own")
    with extra("lite"):
        import ai_edge_litert  # noqa: F401  what was written is run by it, so it must be there
    model = model.with_dtype("float32")
    baked = manifest.read_classes(model, classes, templates) if classes is not None else None
    with manifest.replacing_export(out_dir) as folder:
        files, left_out = {}, {}
        if has_image:
            more = {"calibration": calibration, "max_patches": max_patches, **options}
            file = "image_encoder.tflite"
            files[file] = write_image_graph(model, folder / file, **more)
            if baked:
                file = "zero_shot.tflite"
                files[file] = write_image_graph(model, folder / file, baked=baked, **more)
                labels = "".join(f"{name}\n" for name in baked[0])
                (folder / "labels.txt").write_text(labels, encoding="utf-8")
        if model.text_tower is not None:
            reason = "there is no tokenizer"
            if model.tokenizer is not None:
                reason = _differing(model.tokenizer)
                if reason:
                    reason += "; tokenize outside and use text_encoder.tflite"
                    left_out["text_encoder_strings.tflite"] = reason
                    warnings.warn(f"no text_encoder_strings.tflite: {reason}", stacklevel=2)
            files.update(write_text_graphs(model, folder, strings=not reason, **options))
        self_test.write(folder, model, files, baked, max_patches)
        record: dict = {**options, "files": files, "left_out": left_out}
        record |= {"source": source, "classes": baked and baked[0], "templates": templates}
        record |= {"self_test": self_test.NAME, "labels": baked and "labels.txt"}
        record["max_patches"] = max_patches
        record["resizing"] = self_test.resizing(model) if has_image else None
        record["tokenizing"] = write_vocabulary(model.tokenizer, folder)
        manifest.write(folder, model, "tflite", **record)
    return files


def convert(function: Callable, specs, tower: tf.Module, signature: str, custom=False) -> bytes:
    """Returns a float TFLite graph of a function of tensors (with `specs`) and one tower."""
    module = tf.Module()
    module.weights = [v.value for v in tower.variables]
    module.function = tf.function(function, input_signature=specs, autograph=False)
    with tempfile.TemporaryDirectory(prefix="lit_tf_") as folder:
        with tracing_for_tflite():
            tf.saved_model.save(module, folder, signatures={signature: module.function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[signature])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.allow_custom_ops = custom
        return converter.convert()


def write_vocabulary(tokenizer, folder) -> dict | None:
    """Writes `vocab.txt` or `vocab.model`; returns what a device needs to tokenize with it."""
    if tokenizer is None:
        return None
    path = folder / f"vocab{vocabularies.suffix(tokenizer.kind)}"
    path.write_bytes(tokenizer.to_bytes())
    return manifest.tokenizing(tokenizer, path.name)


def write_image_graph(
    model,
    file,
    quantization,
    calibration=None,
    baked=None,
    batch=None,
    min_runtime=NEWEST,
    max_patches=None,
) -> dict:
    """Writes and verifies the image tower's graph, or with `baked` the classifier's."""
    temperature = model.temperature
    pictures = samples.sample_images(model.config.image.image_size)
    sample = samples.prepared(model, pictures, max_patches=max_patches)
    embed, specs = samples.embed_function(model, sample, batch)

    def run(*tensors):
        z = embed(*tensors)
        if baked is None:
            return {"embedding": z}
        with tf.name_scope(quantize.KEPT_FLOAT):
            similarity = manifest.similarities(z, temperature * baked[1])
        return {"probabilities": tf.nn.softmax(similarity)}

    signature = "encode_image" if baked is None else "zero_shot"
    graph = convert(run, specs, model.image_tower, signature)
    options = {"batch": batch or 1, "min_runtime": min_runtime}
    known = {signature: calibration}
    file.write_bytes(quantize.quantized(graph, quantization, known, **options))
    if calibration:
        sample = {k: np.concatenate([v, calibration[k][:16]]) for k, v in sample.items()}
    want = samples.embedded(model, sample)
    if baked is not None:
        want = tf.nn.softmax(temperature * manifest.similarities(want, baked[1])).numpy()
    return _measure(file, {signature: sample}, want, quantization)


def write_text_graphs(
    model, folder, quantization, strings=False, batch=None, min_runtime=NEWEST
) -> dict:
    """Writes and verifies the graphs of the text tower, one of `strings`; returns their records."""
    text, length, tower = model.config.text, model.config.token_length, model.text_tower
    options = {"batch": batch or 1, "min_runtime": min_runtime, "means": None}
    options["last_block"] = text.depth - 1 if text.kind != "bert" else 0

    def embed(tokens):
        return {"embedding": model.embed_tokens(tokens)}

    specs, file = [tf.TensorSpec([batch, length], tf.int32, "tokens")], "text_encoder.tflite"
    graph = convert(embed, specs, tower, "encode_tokens")
    # Not the tokens that the result is measured on.
    known = {"encode_tokens": {"tokens": samples.sample_tokens(model, 96, calibration=True)}}
    if quantization == DYNAMIC_INT8:
        options["means"] = quantize.input_means(graph, known, batch or 8)
    (folder / file).write_bytes(quantize.quantized(graph, quantization, known, **options))
    tokens = samples.sample_tokens(model)
    given: dict = {"encode_tokens": {"tokens": tokens}}
    want = model.encode_tokens(tokens)
    out = {file: _measure(folder / file, given, want, quantization)}
    if strings:
        tokenize, file = _fast_tokenizer(model.tokenizer), "text_encoder_strings.tflite"
        specs = [tf.TensorSpec([batch], tf.string, "text")]
        whole = lambda text: embed(tokenize(text))  # noqa: E731
        graph = convert(whole, specs, tower, "encode_text", custom=True)
        # No calibrator runs the tokenizer's operations.
        how = DYNAMIC_INT8 if quantization == INT8 else quantization
        (folder / file).write_bytes(quantize.quantized(graph, how, **options))
        given = {"encode_text": {"text": [t.encode() for t in samples.SAMPLE_TEXTS]}}
        want = model.encode_text(samples.SAMPLE_TEXTS)
        out[file] = _measure(folder / file, given, want, quantization)
    return out


def _fast_tokenizer(tokenizer):
    """Returns tensorflow-text's tokenizer for devices as a function from (N,) to int32 (N, L)."""
    import tensorflow_text as tf_text

    length = tokenizer.length
    if tokenizer.kind == "bert":
        pieces = tokenizer.to_bytes().decode().split("\n")[:-1]
        fast = tf_text.FastBertTokenizer(
            vocab=pieces, support_detokenization=False, lower_case_nfd_strip_accents=True
        )
        edge, pad = pieces.index("[CLS]"), 0
    else:
        fast = tf_text.FastSentencepieceTokenizer(tokenizer.to_bytes())
        edge = pad = tokenizer.eos

    def tokenize(text):
        ids = fast.tokenize(text).to_tensor(default_value=pad, shape=[None, length - 1])
        ids = tf.cast(ids, tf.int32)
        if tokenizer.kind == "sentencepiece" and tokenizer.has_sentinels:
            ids = tf.where(ids < tokenizer.vocab_size, ids, tokenizer.unk)
        edges = tf.fill([tf.shape(ids)[0], 1], edge)
        parts = [edges, ids] if tokenizer.kind == "bert" else [ids, edges]
        return tf.ensure_shape(tf.concat(parts, axis=1), [None, length])

    return tokenize


def _differing(tokenizer):
    """Returns why a device's tokenizer cannot replace a tokenizer, or None if it can."""
    # The fast sentencepiece tokenizer lower-cases nothing, and reads only unigram models without
    # byte fallback and spaces at the ends of words. With others it gives wrong ids.
    texts = [*samples.SAMPLE_TEXTS, *samples.sample_prompts(81), *samples.ODD_TEXTS]
    texts += ["a\0b", "a <extra_id_1> cat"]
    got, want = _fast_tokenizer(tokenizer)(tf.constant(texts)).numpy(), tokenizer(texts).numpy()
    for text, a, b in zip(texts, got, want, strict=True):
        if not np.array_equal(a, b):
            what = f"tensorflow-text's tokenizer for devices gives {a.tolist()} for {text!r}"
            return f"{what}, the model's own {b.tolist()}"
    return None


def _measure(file, inputs, want, quantization):
    """Runs a file in LiteRT alone; returns its record in the manifest."""
    name = pathlib.Path(file).name
    got, record = verify.run_in_process("tflite", file, inputs)
    record = {"bytes": os.path.getsize(file), **record}
    (found,) = got.values()
    if not np.isfinite(found).all():
        raise ExportError(f"{name} answers with NaN or infinity; nothing was written")
    if name == "zero_shot.tflite":
        record["max_probability_difference"] = float(np.abs(found - want).max())
        record["same_class"] = float(np.mean(found.argmax(-1) == want.argmax(-1)))
        return record
    cosine = samples.cosine(found, want)
    record["mean_cosine"], record["min_cosine"] = float(cosine.mean()), float(cosine.min())
    record["max_abs_difference"] = float(np.abs(found - want).max())
    least = LEAST_COSINE[quantization]
    if not cosine.mean() >= least:
        images = quantization == INT8 and name == "image_encoder.tflite"
        raise ExportError(
            f"{name}: with quantization {quantization} the embeddings' cosine to the Keras model's "
            f"is {cosine.mean():.5f}, expected at least {least}; nothing was written. Export with "
            f"less quantization{', or calibrate with images that look like yours' * images}"
        )
    return record
