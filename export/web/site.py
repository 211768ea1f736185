"""A folder that any static web server can serve: the page, the runtime, the model."""

import base64
import hashlib
import html
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import PIL.Image
import PIL.ImageOps
import tensorflow as tf

import lit_tf
from lit_tf.errors import ExportError, extra
from lit_tf.files import printable, sha256
from lit_tf.images import preprocessing
from lit_tf.images.browsers import for_browsers
from lit_tf.model import LitModel
from lit_tf.search.paths import listed
from lit_tf.zero_shot import get_templates

from .. import manifest, names, samples, to_tflite
from ..names import DYNAMIC_INT8, WEB_QUANTIZATIONS
from . import runtime as web_runtime

PAGE = pathlib.Path(__file__).parent
# Sentences that show what the page does, for any model.
TEXTS = ("a photo of a cat", "a photo of a dog", "a drawing", "a page of text")
DESCRIPTION = (
    "Which sentence fits which picture? The model runs in your browser: your pictures and words "
    "stay on your machine."
)
# Bytes of the largest file: Cloudflare Pages refuses more than 25 MiB, GitHub Pages 100 MiB.
LARGEST = 24 * 2**20


def web(
    model: LitModel,
    out_dir: str | os.PathLike,
    *,
    classes: Iterable[str] | None = None,
    templates: str | os.PathLike | Sequence[str] = "clip_best",
    quantization: str = DYNAMIC_INT8,
    max_patches: int | None = None,
    images: Sequence[str | os.PathLike] = (),
    texts: Sequence[str] = TEXTS,
    title: str | None = None,
    description: str | None = None,
    author: str | None = None,
    preview: str | os.PathLike | None = None,
    address: str | None = None,
    runtime: Sequence[str | os.PathLike] = (),
    source: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Writes a web page that runs a model in its visitors' browsers, and uploads nothing.

    Any static web server can serve the folder; `lit-tf serve-web` is one to try it with. The page
    compares pictures with sentences and searches folders of photos. See docs/web.md.

    Args:
        model: a `LitModel` with both towers and a vocabulary.
        out_dir: the folder; replaced only by a complete and verified one.
        classes: class names, or a `lit_tf.few_shot.Classifier`. With them, the page classifies and
            does not need the text tower.
        templates: prompt templates for `classes`.
        quantization: `dynamic_int8`, `float16` or `none`, as for `tflite`. Browsers run
            `dynamic_int8` fastest.
        max_patches: of a NaFlex model, as in `tflite`.
        images: paths of pictures that the page offers as examples.
        texts: the sentences that the page starts with.
        title: the page's heading; default: the model's name.
        description: what search engines and messengers say of the page.
        author: who made the page; it says so.
        preview: path of the picture that messengers show beside a link; default: the first example.
        address: where the page will be, such as "https://example.org/pets/". Most messengers show
            the preview only if the page names it with its full address.
        runtime: tarballs of the npm packages that the page runs on. Others come from the cache or
            from npm.
        source: the checkpoint's path, whose digest the manifest records.

    Returns:
        {file: {"bytes", "sha256", "mean_cosine", ...}} of the model's files, as in the manifest.

    Raises:
        ExportError: the model lacks a tower or a vocabulary, the runtime is not available,
            `out_dir` holds something else, or the export does not agree with the model. Nothing is
            left behind.
        ImageError: an example or the preview cannot be read.
    """
    names.check("quantization", quantization, WEB_QUANTIZATIONS)
    images, texts = listed(images), listed(texts)
    max_patches = samples.most_patches(model, max_patches)
    if model.t is None or model.tokenizer is None:
        raise ExportError("a web page needs a model with both towers and a vocabulary")
    samples.check_preprocessing(model)
    with extra("lite"):
        import ai_edge_litert  # noqa: F401  what was written is run by it, so it must be there
    packages = [web_runtime.CORE, web_runtime.UTILS]
    if classes is None and model.tokenizer.kind == "sentencepiece":
        packages.append(web_runtime.SENTENCEPIECE)
    tarballs = web_runtime.fetch(packages, listed(runtime))
    preview = preview or next(iter(images), None)
    for path in (*images, *([preview] if preview else [])):
        preprocessing.to_uint8(path)
    model = model.with_dtype("float32")
    with manifest.replacing_export(out_dir) as folder:
        for name in ("model", "runtime", "page", "licences"):
            (folder / name).mkdir()
        web_runtime.write(folder / "runtime", tarballs)
        how = {"quantization": quantization, "max_patches": max_patches}
        labels, files, self_test = _model(model, folder, classes, templates, **how)
        page = {
            "title": title or model.name,
            "description": description or DESCRIPTION,
            "author": author or "",
            "preview": _preview(folder / "page", preview),
            "address": address and address.rstrip("/") + "/",
        }
        record = {**how, "files": files, "self_test": self_test, "page": page}
        record |= {"source": source, "classes": labels, "templates": templates}
        record["tokenizing"] = None if labels else tokenizing(model.tokenizer)
        record["meaning"] = _meaning(model.bias, "classes" if labels else "sentences")
        record["about"] = _about(model, files, how, labels and list(get_templates(templates)))
        record["examples"] = {"images": _examples(folder / "page", images), "texts": texts}
        record["runtime"] = {package.name: package.version for package in tarballs}
        record["runtime_folder"] = _addressed(folder / "runtime")
        manifest.write(folder, model, "web", **record)
        _licences(folder / "licences", tarballs)
        _page(folder, page, labels or texts)
    return files


def _model(model, folder, classes, templates, quantization, max_patches):
    """Writes the model; returns names of classes or None, the records of its files, a self-test."""
    graphs, labels = folder / "model", None
    # LiteRT.js refuses an open batch size.
    file, how = "image_encoder.tflite", {"quantization": quantization, "batch": 1}
    image = to_tflite.write_image_graph(model, graphs / file, **how, max_patches=max_patches)
    files = {file: image}
    if classes is None:
        vocabulary = to_tflite.write_vocabulary(model.tokenizer, graphs)["file"]
        files |= to_tflite.write_text_graphs(model, graphs, **how)
        files[vocabulary] = {}
    else:
        labels, embeddings = manifest.read_classes(model, classes, templates)
        (graphs / "classes.bin").write_bytes(embeddings.astype("<f4").tobytes())
        files["classes.bin"] = {}
    self_test = _self_test(model, folder, classes is None, max_patches)
    files = {f"model/{name}": {**record, **_file(graphs / name)} for name, record in files.items()}
    return labels, files, self_test


def tokenizing(tokenizer):
    """Returns what web/tokenizer.js needs to give the tokenizer's ids."""
    file = {"bert": "vocab.txt", "sentencepiece": "vocab.model"}[tokenizer.kind]
    return manifest.tokenizing(tokenizer, f"model/{file}")


def _meaning(bias, these) -> str:
    """Returns what the page's percentages mean."""
    alone = (
        f"Percentages compare the {these} with each other: for every picture they add up to 100 % "
        f"among these {these}, even if none of them fits."
    )
    match = (
        f"“match” is how likely a picture and one of the {these} belong together, whatever the "
        "others are. “among these” compares them with each other."
    )
    return alone if bias is None else match


def _about(model, files, how, templates) -> dict[str, str]:
    """Returns the entries about the model in "About this page"."""
    size, most = model.config.image.image_size, how["max_patches"]
    shape = f"at most {most} patches" if most else f"{size} × {size} pixels"
    bytes_of = {name: f"{record['bytes'] / 1e6:.1f} MB" for name, record in files.items()}
    tower = bytes_of["model/image_encoder.tflite"]
    about = {"Image tower": f"{tower}, {shape}, {how['quantization']}"}
    built_in = "none: the classes are built in"
    about["Text tower"] = bytes_of.get("model/text_encoder.tflite", built_in)
    if templates is not None:
        about["Prompts"] = " · ".join(templates)
    about["Temperature"] = f"{model.temperature:.4g}, by which similarities are multiplied"
    if model.bias is not None:
        about["Bias"] = f"{model.bias:.4g}, added before the sigmoid that gives “match”"
    return {**about, "Written by": f"lit_tf {lit_tf.__version__}"}


def _self_test(model, folder, with_text, max_patches) -> dict:
    """Returns what the page tests itself against: LiteRT's answers on the exporting machine."""
    (picture,) = samples.sample_images(64, 1)
    (folder / "page" / "self_test.png").write_bytes(tf.io.encode_png(picture).numpy())
    given = samples.prepared(model, [picture], max_patches=max_patches)
    graphs = folder / "model"
    embedding = _answer(graphs / "image_encoder.tflite", given)
    test: dict[str, Any] = {"image": "self_test.png", "image_embedding": embedding}
    if with_text:
        ids = model.tokenize(samples.SAMPLE_TEXTS)
        pairs = zip(samples.SAMPLE_TEXTS, ids.tolist(), strict=True)
        test["texts"] = [{"text": text, "ids": row} for text, row in pairs]
        test["text_embedding"] = _answer(graphs / "text_encoder.tflite", {"tokens": ids[:1]})
    return test


def _answer(file, given) -> str:
    """Returns a graph's answer (1, D) as base64 of float32, little-endian."""
    with extra("lite"):
        from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner()
    (answer,) = runner(**given).values()
    return base64.b64encode(answer.astype("<f4").tobytes()).decode()


def _file(path) -> dict:
    """Returns the manifest's record of a model's file, which is split if it is large."""
    size, parts = os.path.getsize(path), list[str]()
    record = {"bytes": size, "sha256": sha256(path)}
    if size <= LARGEST:
        return record
    with open(path, "rb") as file:
        while data := file.read(LARGEST):
            part = path.with_name(f"{path.name}.{len(parts)}")
            part.write_bytes(data)
            parts.append(f"model/{part.name}")
    path.unlink()
    return {**record, "parts": parts}


def _examples(folder, images) -> list[dict[str, str]]:
    """Writes the example pictures under numbers; returns their names, as labels, and files."""
    (folder / "examples").mkdir()
    found = []
    for i, path in enumerate(map(pathlib.Path, images), 1):
        data, kind = for_browsers(path.read_bytes(), printable(path))
        (folder / "examples" / f"{i}.{kind}").write_bytes(data)
        found.append({"name": printable(path.name), "file": f"examples/{i}.{kind}"})
    return found


def _preview(folder, path) -> str | None:
    """Writes the picture that messengers show beside a link; returns its name."""
    if path is None:
        return None
    picture = PIL.Image.fromarray(preprocessing.to_uint8(path))
    picture = PIL.ImageOps.pad(picture, (1200, 630), color="white")
    picture.save(folder / "preview.jpg", quality=90)
    return "preview.jpg"


def _licences(folder, tarballs):
    """Writes the licences of the folder's contents."""
    shutil.copy(PAGE / "LICENSE.txt", folder / "Apache-2.0.txt")
    text = [
        "The page and its scripts are part of lit_tf, under the Apache License 2.0.",
        "The folder runtime/ holds parts of these npm packages, under the same licence:",
        *(f"- {package.spec}: {package.about}" for package in tarballs),
        "Apache-2.0.txt is the text of the licence. The model's licence is its author's to state.",
    ]
    (folder / "NOTICE.txt").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _page(folder, page, texts):
    """Writes the page's files; `index.html` and `sw.js` name them by digests, so none are mixed."""
    for path in PAGE.iterdir():
        if path.suffix in (".js", ".css", ".svg") and path.name != "sw.js":
            shutil.copyfile(path, folder / "page" / path.name)
    shutil.copyfile(folder / manifest.NAME, folder / "page" / manifest.NAME)
    own = _addressed(folder / "page")
    fields = {**page, "texts": "\n".join(texts), "page": own, "meta": _meta(page, own)}
    _fill("index.html", folder, lambda name: fields[name])
    (folder / ".nojekyll").touch()  # GitHub Pages serves the files as they are
    paths = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    names = [p.as_posix() for p in paths if p.parts[0] in ("page", "runtime")]
    files = {"": sha256(folder / "index.html"), **{name: sha256(folder / name) for name in names}}
    values = {"version": own.split("/")[1], "files": json.dumps(files, indent=1)}
    _fill("sw.js", folder, values.__getitem__)


def _addressed(folder) -> str:
    """Moves a folder's files into one below it, which their digest names; returns its address."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    inner = folder.with_name("moving")
    folder.rename(inner)
    folder.mkdir()
    inner.rename(folder / digest.hexdigest()[:16])
    return f"{folder.name}/{digest.hexdigest()[:16]}/"


def _meta(page, own) -> str:
    """Returns the tags that search engines and messengers read."""
    tags = [("name", "description", page["description"]), ("name", "author", page["author"])]
    tags += [("property", f"og:{name}", page[name]) for name in ("title", "description")]
    tags += [("property", "og:type", "website"), ("property", "og:url", page["address"])]
    if page["preview"]:
        picture = f"{page['address'] or ''}{own}{page['preview']}"
        tags += [("property", "og:image", picture), ("name", "twitter:card", "summary_large_image")]
    return "\n".join(
        f'<meta {kind}="{name}" content="{html.escape(content)}">'
        for kind, name, content in tags
        if content
    )


def _fill(name, folder, value):
    """Copies a file of the page; `value` gives what stands in double braces there."""

    def filled(match):
        found = value(match[1])
        return found if name == "sw.js" or match[1] == "meta" else html.escape(found)

    text = (PAGE / name).read_text(encoding="utf-8")
    text = re.sub(r"{{(\w+)}}", filled, text)
    (folder / name).write_text(text, encoding="utf-8")
