"""A folder that any static web server can serve: the page, the runtime, the model."""

import base64
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

import lit_tf
from lit_tf.errors import ExportError, extra
from lit_tf.files import sha256
from lit_tf.images import preprocessing
from lit_tf.model import LitModel
from lit_tf.zero_shot import get_templates

from .. import manifest, quantize, samples, to_tflite
from ..names import DYNAMIC_INT8, WEB_QUANTIZATIONS
from . import runtime as web_runtime

PAGE = pathlib.Path(__file__).parent
# Sentences that show what the page does, for any model.
TEXTS = ("a photo of a cat", "a photo of a dog", "a drawing", "a page of text")


def web(
    model: LitModel,
    out_dir: str | os.PathLike,
    *,
    classes: Iterable[str] | None = None,
    templates: str | os.PathLike | Sequence[str] = "clip_best",
    quantization: str = DYNAMIC_INT8,
    images: Sequence[str | os.PathLike] = (),
    texts: Sequence[str] = TEXTS,
    runtime: Sequence[str | os.PathLike] = (),
    source: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Writes a web page that runs a model in its visitors' browsers, and uploads nothing.

    Any static web server can serve the folder; `lit-tf serve-web` is one to try it with. The page
    compares pictures with sentences and searches folders of photos. See docs/web.md.

    Args:
        model: a `LitModel` with both towers and a vocabulary.
        out_dir: the folder; replaced only by a complete and verified one.
        classes: class names. With them, the page classifies and does not need the text tower.
        templates: prompt templates for `classes`.
        quantization: `dynamic_int8`, `float16` or `none`, as for `tflite`. Browsers run
            `dynamic_int8` fastest.
        images: paths of pictures that the page offers as examples.
        texts: the sentences that the page starts with.
        runtime: tarballs of the npm packages that the page runs on. Others come from the cache or
            from npm.
        source: the checkpoint's path, whose digest the manifest records.

    Returns:
        {file: {"bytes", "sha256", "mean_cosine", ...}} of the model's files, as in the manifest.

    Raises:
        ExportError: the model lacks a tower or a vocabulary, the runtime is not available,
            `out_dir` holds something else, or the export does not agree with the model. Nothing is
            left behind.
        ImageError: an example cannot be read.
    """
    if quantization not in WEB_QUANTIZATIONS:
        raise ExportError(
            f"quantization must be one of {', '.join(WEB_QUANTIZATIONS)} for a web page; "
            f"found {quantization!r}"
        )
    if model.t is None or model.tokenizer is None:
        raise ExportError("a web page needs a model with both towers and a vocabulary")
    with extra("lite"):
        import ai_edge_litert  # noqa: F401  what was written is run by it, so it must be there
    packages = [web_runtime.CORE, web_runtime.UTILS]
    if classes is None and model.tokenizer.kind == "sentencepiece":
        packages.append(web_runtime.SENTENCEPIECE)
    tarballs = web_runtime.fetch(packages, runtime)
    for path in images:
        preprocessing.to_uint8(path)
    model = model.with_dtype("float32")
    with manifest.replacing_export(out_dir) as folder:
        for name in ("model", "runtime", "examples", "licences"):
            (folder / name).mkdir()
        names = None
        files = {"image_encoder.tflite": _image_tower(model, folder, quantization)}
        if classes is None:
            files |= _text_tower(model, folder, quantization)
        else:
            names, embeddings = manifest.read_classes(model, classes, templates)
            (folder / "model" / "classes.bin").write_bytes(embeddings.astype("<f4").tobytes())
            files["classes.bin"] = {}
        files = {
            f"model/{name}": {
                **record,
                "bytes": os.path.getsize(folder / "model" / name),
                "sha256": sha256(folder / "model" / name),
            }
            for name, record in files.items()
        }
        manifest.write(
            folder,
            model,
            "web",
            source=source,
            classes=names,
            templates=templates,
            quantization=quantization,
            stays_float=quantize.STAYS_FLOAT[quantization],
            files=files,
            tokenizing=None if classes is not None else tokenizing(model.tokenizer),
            self_test=_self_test(model, folder, classes is None),
            meaning=_meaning(model.bias, "sentences" if classes is None else "classes"),
            about=_about(model, files, quantization, names and list(get_templates(templates))),
            examples={"images": _examples(folder, images), "texts": list(texts)},
            runtime={package.name: package.version for package in tarballs},
        )
        web_runtime.write(folder / "runtime", tarballs)
        _licences(folder / "licences", tarballs)
        _page(folder)
    return files


def _image_tower(model, folder, quantization):
    # LiteRT.js refuses an open batch size.
    file = folder / "model" / "image_encoder.tflite"
    return to_tflite.write_image_graph(model, file, quantization, batch=1)


def _text_tower(model, folder, quantization):
    name = to_tflite.write_vocabulary(model.tokenizer, folder / "model")
    graphs = to_tflite.write_text_graphs(model, folder / "model", quantization, batch=1)
    return {**graphs, name: {}}


def tokenizing(tokenizer) -> dict:
    """What web/tokenizer.js needs to give the tokenizer's ids."""
    if tokenizer.kind == "bert":
        return {"kind": "bert", "length": tokenizer.length, "file": "model/vocab.txt"}
    return {
        "kind": "sentencepiece",
        "length": tokenizer.length,
        "file": "model/vocab.model",
        "eos": tokenizer.eos,
        "pad": tokenizer.pad,
        "unk": tokenizer.unk,
        "size": tokenizer.vocab_size,
        "lowercase": tokenizer.lowercase,
    }


def _meaning(bias, these) -> str:
    """Returns what the page's percentages mean."""
    if bias is None:
        return (
            f"Percentages compare the {these} with each other: for every picture they add up to "
            f"100 % among these {these}, even if none of them fits."
        )
    return (
        f"“match” is how likely a picture and one of the {these} belong together, whatever the "
        "others are. “among these” compares them with each other."
    )


def _about(model, files, quantization, templates) -> dict[str, str]:
    """Returns the entries about the model in "About this page"."""
    size = model.config.image.image_size
    bytes_of = {name: f"{record['bytes'] / 1e6:.1f} MB" for name, record in files.items()}
    tower = bytes_of["model/image_encoder.tflite"]
    about = {"Image tower": f"{tower}, {size} × {size} pixels, {quantization}"}
    if templates is None:
        about["Text tower"] = bytes_of["model/text_encoder.tflite"]
    else:
        about["Text tower"] = "none: the classes are built in"
        about["Prompts"] = " · ".join(templates)
    about["Temperature"] = f"{model.temperature:.4g}, by which similarities are multiplied"
    if model.bias is not None:
        about["Bias"] = f"{model.bias:.4g}, added before the sigmoid that gives “match”"
    return {**about, "Written by": f"lit_tf {lit_tf.__version__}"}


def _image_test(folder):
    """Writes the picture that the page tests itself with; returns its pixels."""
    (picture,) = samples.sample_images(64, 1)
    (folder / "self_test.png").write_bytes(tf.io.encode_png(picture).numpy())
    return picture


def _self_test(model, folder, with_text) -> dict:
    """Returns what the page tests itself against: LiteRT's answers on the exporting machine."""
    pixels = samples.resized(model, [_image_test(folder)])
    graphs = folder / "model"
    test: dict[str, Any] = {
        "image": "self_test.png",
        "image_embedding": _answer(graphs / "image_encoder.tflite", pixels),
    }
    if with_text:
        ids = model.tokenize(samples.SAMPLE_TEXTS)
        pairs = zip(samples.SAMPLE_TEXTS, ids.tolist(), strict=True)
        test["texts"] = [{"text": text, "ids": row} for text, row in pairs]
        test["text_embedding"] = _answer(graphs / "text_encoder.tflite", ids[:1])
    return test


def _answer(file, value) -> str:
    """Returns a graph's answer (1, D) as base64 of float32, little-endian."""
    with extra("lite"):
        from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner()
    (name,) = runner.get_input_details()
    (answer,) = runner(**{name: value}).values()
    return base64.b64encode(answer.astype("<f4").tobytes()).decode()


def _examples(folder, images) -> list[str]:
    """Copies the example pictures; returns their paths within the site."""
    names: list[str] = []
    for path in map(pathlib.Path, images):
        name = path.name if path.name not in names else f"{len(names)}-{path.name}"
        shutil.copyfile(path, folder / "examples" / name)
        names.append(name)
    return [f"examples/{name}" for name in names]


def _licences(folder, tarballs):
    """Writes the licences of the folder's contents."""
    shutil.copy(PAGE / "LICENSE.txt", folder / "Apache-2.0.txt")
    parts = [f"{package.spec}: {package.about}" for package in tarballs]
    text = [
        "The page and its scripts are part of lit_tf, under the Apache License 2.0.",
        "The folder runtime/ holds parts of these npm packages, under the same licence:",
        *(f"- {part}" for part in parts),
        "Apache-2.0.txt is the text of the licence. The model's licence is its author's to state.",
    ]
    (folder / "NOTICE.txt").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _page(folder):
    """Copies the page, and writes into its service worker which files to keep."""
    for path in PAGE.iterdir():
        if path.suffix in (".html", ".js", ".css", ".svg") and path.name != "sw.js":
            shutil.copyfile(path, folder / path.name)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    files = [path.as_posix() for path in files if path.parts[0] != "model"]
    version = hashlib.sha256()
    for path in files:
        version.update(f"{path} {sha256(folder / path)}\n".encode())
    kept = ["./", *(path for path in files if "wasm/" not in path)]
    worker = (PAGE / "sw.js").read_text(encoding="utf-8")
    worker = worker.replace("{{version}}", version.hexdigest()[:16])
    worker = worker.replace("{{files}}", json.dumps(kept))
    (folder / "sw.js").write_text(worker, encoding="utf-8")
