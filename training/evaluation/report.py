"""The report: one self-contained HTML file that shows what the model got wrong.

`report.html` is its template. Examples are evenly spaced among all that qualify.
"""

import base64
import io
import os
import pathlib
import re

import numpy as np
import tensorflow as tf

from lit_tf.errors import extra
from lit_tf.files import replacing

from .notes import counted
from .protocol import Result, RetrievalResult, ZeroShotResult

with extra("train"):
    import jinja2
    import markupsafe
    import matplotlib
    import matplotlib.figure

THUMBNAIL = 96  # pixels, of the larger side
_PAIRS = 12
_PICTURES_PER_PAIR = 5
_EXAMPLES = 6
_TOP = 5
_BINS = 15
_FEW_CLASSES = 40  # up to this many classes are shown without folding


def write_report(
    path: str | os.PathLike, title: str, table: list[list[str]], results: list[Result]
):
    """Writes the report."""
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    how = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, **how)
    environment.filters["per_cent"] = lambda share: f"{100 * share:.1f} %"
    page = environment.get_template("report.html").render(
        title=title, table=table, results=[_section(result) for result in results]
    )
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))  # paths need not be UTF-8


def _section(result):
    views = {ZeroShotResult: ("zero_shot", _zero_shot), RetrievalResult: ("retrieval", _retrieval)}
    kind, view = views.get(type(result), ("few_shot", lambda result: {}))
    section = {k: getattr(result, k) for k in ("dataset", "split", "images", "texts", "notes")}
    return {**section, "kind": kind, "view": view(result)}


# --- Pictures -------------------------------------------------------------------------------------


def thumbnails(images, numbers) -> dict[int, str]:
    """Returns {number: data URI} of small pictures."""
    out = {}
    for number in sorted({int(n) for n in numbers}):
        for data in images.encoded(number, number + 1):
            image = images.decoding.decode(data)
            if max(image.shape[:2]) > THUMBNAIL:
                sides = (THUMBNAIL, THUMBNAIL)
                image = tf.image.resize(image, sides, preserve_aspect_ratio=True, antialias=True)
                image = tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
                kind, encoded = "jpeg", tf.io.encode_jpeg(image, quality=85)
            else:  # lossless, because JPEG would spoil a picture of 32 pixels
                kind, encoded = "png", tf.io.encode_png(image)
            code = base64.b64encode(encoded.numpy()).decode()
            out[number] = f"data:image/{kind};base64,{code}"
    return out


def _picture(uri, caption="", own=False):
    return {"uri": uri, "caption": caption, "own": own}


def _spread(indices, count):
    indices = np.asarray(indices)
    if len(indices) <= count:
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]


# --- Zero-shot ------------------------------------------------------------------------------------


def confused_pairs(result: ZeroShotResult, count: int) -> list[tuple[int, int, np.ndarray]]:
    """Returns the most frequent mistakes: (right class, predicted class, indices into `rows`)."""
    groups = {}
    for i in np.flatnonzero(~result.right):
        pair = (result.labels[i][0], int(result.predictions[i]))
        groups.setdefault(pair, []).append(i)
    order = sorted(groups, key=lambda pair: (-len(groups[pair]), pair))[:count]
    return [(*pair, np.array(groups[pair])) for pair in order]


def calibration(confidences, right, bins: int = _BINS):
    """Returns the calibration curve and the expected calibration error (Guo et al., 2017)."""
    confidences, right = np.asarray(confidences, np.float64), np.asarray(right)
    place = np.minimum((confidences * bins).astype(int), bins - 1)
    curve, error = [], 0.0
    for b in range(bins):
        here = place == b
        if here.any():
            mean, share, count = confidences[here].mean(), right[here].mean(), int(here.sum())
            curve.append((float(mean), float(share), count))
            error += count / len(right) * abs(mean - share)
    return curve, float(error)


def _zero_shot(result):
    names, folders = result.data.class_names, result.data.folders
    classes = sorted((accuracy, i, count) for i, (accuracy, count) in result.per_class().items())
    shown = [f"{name} ({folders[i]})" if folders else name for i, name in enumerate(names)]
    return {
        "accuracy": result.metrics["accuracy"],
        "count": len(names),
        "templates": result.templates,
        "classes": [{"name": shown[i], "accuracy": a, "count": n} for a, i, n in classes],
        "few": _FEW_CLASSES,
        "confusions": _confusions(result),
        "calibration": _calibration(result),
    }


def _confusions(result):
    pairs = confused_pairs(result, _PAIRS)
    if not pairs:
        return []
    names, of_class = result.data.class_names, result.per_class()
    chosen = [_spread(members, _PICTURES_PER_PAIR) for _, _, members in pairs]
    pictures = thumbnails(result.data.images, result.rows[np.concatenate(chosen)])
    return [
        {
            "label": names[label],
            "predicted": names[predicted],
            "count": len(members),
            "of": counted(of_class[label][1], "image"),
            "pictures": [_picture(pictures[int(result.rows[i])]) for i in shown],
        }
        for (label, predicted, members), shown in zip(pairs, chosen, strict=True)
    ]


def _calibration(result):
    if result.confidences is None:
        return None
    curve, error = calibration(result.confidences, result.right)
    return {"error": error, "bins": _BINS, "curve": curve, "svg": _calibration_svg(curve)}


def _calibration_svg(curve):
    confidences, accuracies, counts = np.transpose(curve)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lit_tf"}):
        figure = matplotlib.figure.Figure(figsize=(4.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        # Unclipped, because clipping in SVG needs references within the page.
        axes.plot([0, 1], [0, 1], "--", color="#5d6b7c", linewidth=1, clip_on=False)
        axes.plot(confidences, accuracies, color="#3b6fb5", clip_on=False)
        sizes = (4 + 10 * np.sqrt(counts / counts.max())) ** 2
        axes.scatter(confidences, accuracies, sizes, color="#3b6fb5", clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
        axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal", facecolor="#f5f7fa")
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    svg = file.getvalue()
    # Within HTML, SVG needs no declaration and no namespaces.
    return markupsafe.Markup(re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg[svg.index("<svg") :]))


# --- Retrieval ------------------------------------------------------------------------------------


def _retrieval(result):
    return {"top": _TOP, "by_caption": _by_caption(result), "by_image": _by_image(result)}


def _top(queries, candidates):
    """Returns the indices of the most similar candidates of each query, best first."""
    return np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :_TOP]


def _right_and_wrong(ranks):
    groups = (("right", np.flatnonzero(ranks == 0)), ("wrong", np.flatnonzero(ranks > 0)))
    return [(word, _spread(queries, _EXAMPLES)) for word, queries in groups if len(queries)]


def _by_caption(result):
    groups = []
    for word, queries in _right_and_wrong(result.text_ranks):
        top = _top(result.ztxt[queries], result.zimg)
        own = result.correspondence[queries]
        pictures = thumbnails(result.data.images, result.rows[[*top.ravel(), *own]])
        cards = []
        for query, found, mine in zip(queries, top, own, strict=True):
            rank = int(result.text_ranks[query])
            shown = [_picture(pictures[int(result.rows[i])], own=bool(i == mine)) for i in found]
            if rank >= _TOP:
                shown.append(_picture(pictures[int(result.rows[mine])], f"rank {rank + 1}", True))
            cards.append({"caption": result.captions[query], "pictures": shown})
        groups.append({"word": word, "cards": cards})
    return groups


def _by_image(result):
    groups = []
    for word, queries in _right_and_wrong(result.image_ranks):
        top = _top(result.zimg[queries], result.ztxt)
        pictures = thumbnails(result.data.images, result.rows[queries])
        cards = []
        for query, found in zip(queries, top, strict=True):
            rank = int(result.image_ranks[query])
            own = result.correspondence[found] == query
            captions = [
                {"word": "right" if right else "wrong", "text": result.captions[i]}
                for i, right in zip(found, own, strict=True)
            ]
            caption = f"rank {rank + 1}" if rank else ""
            picture = _picture(pictures[int(result.rows[query])], caption)
            cards.append({"picture": picture, "captions": captions})
        groups.append({"word": word, "cards": cards})
    return groups
