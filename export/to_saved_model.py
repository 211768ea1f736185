"""SavedModels: one graph that takes JPEGs and sentences and returns probabilities."""

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ExportError
from lit_tf.images.decoding import decode_image
from lit_tf.images.formats import MAX_PIXELS, check_max_pixels
from lit_tf.images.preparation import preparation
from lit_tf.loading import dtype_policy
from lit_tf.model import LitModel

from . import manifest, samples, verify, warmup

PARTS = ("image", "text", "tokens")
# Largest difference from the Keras model's embeddings; other precisions must reach a cosine.
FLOAT_TOLERANCE = 1e-5
REDUCED_COSINE = 0.999


def _function(*specs):
    """Like `tf.function`, without AutoGraph: nothing here branches on tensors."""
    return tf.function(input_signature=specs, autograph=False)


class Served(tf.Module):
    """The contents of the SavedModel: the towers' variables, and one function per signature."""

    def __init__(self, model, parts, classes, max_pixels, exif, prepare):
        super().__init__()
        config = model.config
        keep = {"image": model.image_tower, "text": model.text_tower, "tokens": model.text_tower}
        towers = {id(keep[p]): keep[p] for p in parts}.values()
        # Variables only, because Keras layers would also save their own traces.
        self.weights = [v.value for tower in towers for v in tower.variables]
        if model.temperature is not None:
            self.temperature = tf.Variable(model.temperature, trainable=False, dtype=tf.float32)
            self.bias = tf.Variable(model.bias or 0.0, trainable=False, dtype=tf.float32)
        self.has_bias = model.bias is not None
        self.by_name = {}
        image, text = "image" in parts, "text" in parts
        if image:
            self._add_image(model, prepare, max_pixels, exif)
        if text or "tokens" in parts:
            spec = tf.TensorSpec([None, config.token_length], tf.int32, "tokens")
            self._add("encode_tokens", spec, lambda tokens: model.embed_short_tokens(tokens))
        if text:
            self.tokenizer = model.tokenizer  # tracked, so its vocabulary becomes an asset
            spec = tf.TensorSpec([None], tf.string, "text")
            encode = self.encode_tokens
            self._add("encode_text", spec, lambda text: encode(model.tokenizer(text)))
        if classes is not None:
            self._add_classify(*classes)
        elif image and text:
            self._add_compare()
        order = ("compare", "classify", "encode_image_bytes", "encode_text", "encode_tokens")
        default = next(name for name in order if name in self.by_name)
        self.by_name["serving_default"] = self.by_name[default]

    def _add(self, name, spec, function):
        """Adds a function of one argument, and a signature that returns its embeddings."""
        function = _function(spec)(function)
        setattr(self, name, function)
        self.by_name[name] = _function(spec)(lambda value: {"embedding": function(value)})

    def _add_image(self, model, prepare, max_pixels, exif):
        one = prepare.spec
        batch = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape], x.dtype), one)
        # Both signatures call this function, so the tower is in the graph only once.
        embed = _function(batch)(model.embed_pixels)

        def encode_image_bytes(image_bytes):
            image_bytes = _checked(image_bytes)
            places = tf.range(tf.size(image_bytes))

            def read(place_and_data):
                place, data = place_and_data
                name = tf.strings.join(["image_bytes at position ", tf.strings.as_string(place)])
                return prepare.fixed(decode_image(data, max_pixels, name, exif=exif))

            return embed(tf.map_fn(read, (places, image_bytes), fn_output_signature=one))

        pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, "image")
        self._add("encode_image", pixels, lambda image: embed(prepare.batch(image)))
        encoded = tf.TensorSpec([None], tf.string, "image_bytes")
        self._add("encode_image_bytes", encoded, encode_image_bytes)

    def _add_compare(self):
        @_function(*(tf.TensorSpec([None], tf.string, name) for name in ("image_bytes", "text")))
        def compare(image_bytes, text):
            zimg, ztxt = self.encode_image_bytes(image_bytes), self.encode_text(text)
            logits = self.temperature * tf.matmul(zimg, ztxt, transpose_b=True) + self.bias
            out = {"logits": logits, "probabilities": tf.nn.softmax(logits)}
            return {**out, "match": tf.sigmoid(logits)} if self.has_bias else out

        self.compare = self.by_name["compare"] = compare

    def _add_classify(self, names, embeddings):
        embeddings = tf.constant(embeddings)  # (C, D): the text tower is not needed any more
        names = tf.constant(names)

        @_function(tf.TensorSpec([None], tf.string, "image_bytes"))
        def classify(image_bytes):
            z = self.encode_image_bytes(image_bytes)
            logits = self.temperature * manifest.similarities(z, embeddings)
            scores, order = tf.math.top_k(tf.nn.softmax(logits), k=tf.shape(names)[0])
            return {"classes": tf.gather(names, order), "scores": scores}

        self.classify = self.by_name["classify"] = classify


def _checked(image_bytes):
    """Returns encoded images; an error names the positions of those that are clearly broken."""
    start = tf.strings.substr(image_bytes, 0, 2)
    known = tf.constant([[b"\xff\xd8", b"\x89P", b"RI"]])  # RI: WebP's RIFF
    strange = ~tf.reduce_any(start[:, tf.newaxis] == known, axis=1)
    # The decoder refuses a JPEG without an end mark, but does not name its position. It may accept
    # one that lacks only the last byte of the mark, so that byte is appended before the check.
    parts = tf.strings.split(image_bytes + b"\xd9", sep=b"\xff\xd9").row_lengths()
    cut = (start == b"\xff\xd8") & (parts < 2)
    checks = []
    for bad, what in (
        (strange, "image_bytes: expected JPEG, PNG or WebP, found others at these positions:"),
        (cut, "image_bytes holds a JPEG that was cut off at these positions:"),
    ):
        places = tf.reshape(tf.where(bad), [-1])
        none = tf.equal(tf.size(places), 0)
        checks.append(tf.debugging.Assert(none, [what, places], summarize=16))
    # Decoding waits for the checks. Otherwise its own error, without a position, might come first.
    with tf.control_dependencies(checks):
        return tf.identity(image_bytes)


def _check_parts(model, parts, classes):
    parts = tuple(dict.fromkeys(parts))
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts:
        raise ExportError(f"parts must be some of {', '.join(PARTS)}; found {', '.join(unknown)}")
    if classes is not None:
        return ("image",)
    if "image" in parts and model.image_tower is None:
        raise ExportError("this model has no image tower; export parts text or tokens")
    if {"text", "tokens"} & set(parts) and model.text_tower is None:
        raise ExportError("this model has no text tower; export parts image")
    if "text" in parts and model.tokenizer is None:
        what = "this model has no vocabulary, so its graph cannot read text"
        raise ExportError(f"{what}: load it with vocab=PATH, or export parts tokens, not text")
    if "text" in parts and model.config.preprocessing == "open_clip":
        what = "open_clip cleans texts with the package ftfy, which cannot run in a graph"
        advice = "export parts image and tokens, and tokenize with model.tokenize(texts)"
        raise ExportError(f"{what}; {advice}")
    return parts


def saved_model(
    model: LitModel,
    path: str | os.PathLike,
    *,
    parts: Sequence[str] = ("image", "text"),
    classes: Iterable[str] | None = None,
    templates: str | os.PathLike | Sequence[str] = "clip_best",
    dtype: Any = None,
    source: str | os.PathLike | None = None,
    max_pixels: int = MAX_PIXELS,
    exif: bool = True,
    max_patches: int | None = None,
) -> dict[str, Any]:
    """Writes a SavedModel that does not depend on lit_tf, verified in a fresh process.

    Args:
        model: a `LitModel`.
        path: the folder; replaced only by a complete and verified one.
        parts: some of `image`, `text` (strings and tokens) and `tokens` (without a tokenizer, so
            the graph needs TensorFlow alone).
        classes: class names, or a `lit_tf.few_shot.Classifier`, in place of the text tower.
        templates: prompt templates for `classes`, as `lit_tf.zero_shot.get_templates` takes them.
        dtype: None for the model's own precision, or a Keras dtype policy such as `bfloat16`.
        source: the checkpoint's path, whose digest the manifest records.
        max_pixels: width times height of the largest image that the graph decodes. It reads the
            header first, and refuses larger images before it allocates memory.
        exif: whether JPEGs are turned upright by their EXIF orientation, as viewers do. The
            published protocol does not. PNGs and WebPs are never turned.
        max_patches: of a NaFlex model, see `encode_image`; the graph's for good.

    Returns:
        The measured parity: {"SIGNATURE/OUTPUT": {"max_abs_difference": float}}. The outputs are
        `embedding`, `probabilities`, `match` (for a model with a bias) and `scores`.

    Raises:
        ConfigError: a model cannot have this `dtype`.
        ExportError: the model lacks a required part, `path` holds something else, or the export
            does not agree with the model. Nothing is left behind.
    """
    parts = _check_parts(model, parts, classes)
    max_pixels = check_max_pixels(max_pixels)
    policy = None if dtype is None else dtype_policy(dtype)
    baked = manifest.read_classes(model, classes, templates) if classes is not None else None
    exported = model if policy is None else model.with_dtype(policy)
    prepare = preparation(model.config, max_patches) if "image" in parts else None
    max_patches = getattr(prepare, "max_patches", None)
    served = Served(exported, parts, baked, max_pixels, exif, prepare)
    with manifest.replacing_export(path) as folder:
        tf.saved_model.save(served, str(folder), signatures=served.by_name)
        record = {"parts": list(parts), "dtype": exported.dtype_policy.name, "exif": exif}
        record |= {"max_pixels": max_pixels, "max_patches": max_patches, "source": source}
        record["needs"] = ["tensorflow", *["tensorflow_text"] * ("text" in parts)]
        record |= {"classes": baked and baked[0], "templates": templates}
        manifest.write(folder, model, "saved_model", **record)
        inputs, expected = _samples(exported, served.by_name, baked, max_patches)
        found, signatures = verify.run_in_process("saved_model", folder, inputs)
        parity = _parity(exported, expected, found)
        warm = warmup.write(folder, inputs, served.by_name)
        manifest.add(folder, signatures=signatures, parity=parity, warmup=warm)
        warmup.keep_extras(path, folder)
    return parity


def _samples(model, signatures, baked, max_patches):
    """Returns inputs {signature: {argument: ...}}, and the model's {"signature/output": array}."""
    inputs, expected = {}, {}
    if "encode_image" in signatures:
        pictures = samples.sample_images(model.config.image.image_size)
        encoded = [tf.io.encode_png(p).numpy() for p in pictures]
        pixels = samples.resized(model, pictures)
        inputs["encode_image"] = {"image": pixels}
        inputs["encode_image_bytes"] = {"image_bytes": encoded}
        expected["encode_image/embedding"] = model.encode_image(pixels, max_patches=max_patches)
        zimg = model.encode_image(pictures, max_patches=max_patches)
        expected["encode_image_bytes/embedding"] = zimg
    if "encode_tokens" in signatures:
        tokens = samples.sample_tokens(model)
        inputs["encode_tokens"] = {"tokens": tokens}
        expected["encode_tokens/embedding"] = model.encode_tokens(tokens)
    if "encode_text" in signatures:
        texts = [t.encode() for t in samples.SAMPLE_TEXTS]
        inputs["encode_text"] = {"text": texts}
        expected["encode_text/embedding"] = ztxt = model.encode_text(samples.SAMPLE_TEXTS)
    if "compare" in signatures:
        inputs["compare"] = {"image_bytes": encoded, "text": texts}
        logits = model.logits(zimg, ztxt)
        expected["compare/probabilities"] = tf.nn.softmax(logits).numpy()
        if model.b is not None:
            expected["compare/match"] = tf.sigmoid(logits).numpy()
    if "classify" in signatures:
        inputs["classify"] = {"image_bytes": encoded}
        scores = tf.nn.softmax(model.temperature * manifest.similarities(zimg, baked[1])).numpy()
        expected["classify/scores"] = -np.sort(-scores, axis=-1)
    return inputs, expected


def _parity(model, expected, found):
    """Returns each answer's difference from the model's, or raises an ExportError."""
    reduced, parity = model.dtype_policy.name != "float32", {}
    for key, want in expected.items():
        difference = float(np.abs(found[key] - want).max())
        if key.endswith("/embedding"):
            good = samples.cosine(found[key], want).min() >= REDUCED_COSINE
            good = good and (reduced or difference <= FLOAT_TOLERANCE)
        else:  # probabilities: the temperature, up to 100, multiplies the embeddings' differences
            good = difference <= (0.1 if reduced else 1e-3)
        if not good:
            what = f"{key} of the SavedModel differs from the Keras model by {difference:.2e}"
            about = f"the model's configuration: {json.dumps(model.config.to_dict())}"
            raise ExportError(f"{what}; nothing was written. Please report this with {about}")
        parity[key] = {"max_abs_difference": difference}
    return parity
