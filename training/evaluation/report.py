"""The report: one HTML file with nothing outside it, for people who want to see what went wrong.

Charts are inline SVG and pictures are data URIs, so the file can be mailed and opened anywhere.
Examples are chosen by rule, never by looks: evenly spaced among all that qualify.
"""

import base64
import html
import os
import pathlib

import numpy as np
import tensorflow as tf

from lit_tf import images as images_lib

from .notes import counted
from .protocol import Result, RetrievalResult, ZeroShotResult

THUMBNAIL = 96  # pixels, of the larger side
_PAIRS = 12
_PICTURES_PER_PAIR = 5
_EXAMPLES = 6
_TOP = 5
_BINS = 15

_STYLE = """
:root { --ink: #1c2430; --soft: #5d6b7c; --line: #dde3ea; --good: #1f7a4d; --bad: #b3372f;
  --bar: #3b6fb5; --page: #fff; --tint: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 24px 80px; max-width: 1040px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 21px; margin: 48px 0 4px; }
h3 { font-size: 16px; margin: 28px 0 8px; }
p { margin: 4px 0 12px; } .soft { color: var(--soft); }
table { border-collapse: collapse; } th, td { padding: 5px 14px 5px 0; text-align: left; }
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.note { background: #fff6e0; border-left: 3px solid #d99a1b; padding: 6px 12px; margin: 6px 0; }
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr));
  gap: 2px 28px; }
.class { display: grid; grid-template-columns: 150px 1fr 118px; gap: 8px; align-items: center; }
.class span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.class .number { text-align: right; font-variant-numeric: tabular-nums; color: var(--soft); }
.track { background: var(--tint); height: 11px; border-radius: 2px; }
.fill { background: var(--bar); height: 11px; border-radius: 2px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(460px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px; }
.pictures { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 8px; }
img { width: 80px; height: 60px; object-fit: contain; background: var(--tint);
  border-radius: 3px; display: block; }
.right { color: var(--good); } .wrong { color: var(--bad); }
figure { margin: 0; padding: 3px; border: 2px solid transparent; border-radius: 5px; }
figure.own { border-color: var(--good); } figcaption { font-size: 12px; color: var(--soft); }
ol { margin: 6px 0 0; padding-left: 22px; } .query { display: flex; gap: 14px; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--soft); }
"""


def write_report(
    path: str | os.PathLike, title: str, table: list[list[str]], results: list[Result]
):
    """Writes the report.

    Args:
        path: the HTML file; replaced only when the new one is whole.
        title: what was evaluated.
        table: the table of figures, the first row its heads.
        results: what was found.
    """
    parts = [f"<h1>{_text(title)}</h1>", _table(table)]
    for result in results:
        parts.append(f"<h2>{_text(result.dataset)}</h2>")
        split = f", split {result.split}" if result.split else ""
        parts.append(
            f'<p class="soft">{result.images:,} images, {result.texts:,} texts{_text(split)}</p>'
        )
        parts += [f'<p class="note">{_text(note)}</p>' for note in result.notes]
        if isinstance(result, ZeroShotResult):
            parts += _zero_shot(result)
        elif isinstance(result, RetrievalResult):
            parts += _retrieval(result)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(page, encoding="utf-8")
    os.replace(beside, path)


def _text(value):
    return html.escape(str(value))


def _per_cent(share):
    return f"{100 * share:.1f} %"


def _table(rows):
    def cells(row, tag):
        # The first three columns are words, the others numbers.
        return "".join(
            f"<{tag}{' class=number' if i > 2 else ''}>{_text(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )

    lines = [f"<tr>{cells(rows[0], 'th')}</tr>"] + [f"<tr>{cells(r, 'td')}</tr>" for r in rows[1:]]
    return f"<table>{''.join(lines)}</table>"


# --- Pictures -------------------------------------------------------------------------------------


def thumbnails(images, numbers) -> dict[int, str]:
    """Returns {number: data URI} of small pictures.

    Args:
        images: an `Images`.
        numbers: which of them; all are readable.
    """
    out = {}
    for number in sorted({int(n) for n in numbers}):
        for data in images.encoded(number, number + 1):
            image = images_lib.decode_image(data)
            if max(image.shape[:2]) > THUMBNAIL:
                sides = (THUMBNAIL, THUMBNAIL)
                image = tf.image.resize(image, sides, preserve_aspect_ratio=True, antialias=True)
                image = tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
                kind, encoded = "jpeg", tf.io.encode_jpeg(image, quality=85)
            else:  # as it is: a picture of 32 pixels would not survive a JPEG
                kind, encoded = "png", tf.io.encode_png(image)
            code = base64.b64encode(encoded.numpy()).decode()
            out[number] = f"data:image/{kind};base64,{code}"
    return out


def _picture(uri, caption="", own=False):
    return (
        f'<figure{" class=own" if own else ""}><img src="{uri}" alt="{_text(caption)}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _spread(indices, count):
    """Returns up to `count` of the indices, evenly spaced."""
    indices = np.asarray(indices)
    if len(indices) <= count:
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]


# --- Zero-shot ------------------------------------------------------------------------------------


def confused_pairs(result: ZeroShotResult, count: int) -> list[tuple[int, int, np.ndarray]]:
    """Returns the most frequent mistakes.

    Args:
        result: what was found.
        count: how many pairs to return.

    Returns:
        (right class, predicted class, indices into `result.rows`), the most frequent first, equal
        ones by class. Of an image with several labels the first is the right class.
    """
    groups = {}
    for i in np.flatnonzero(~result.right):
        pair = (result.labels[i][0], int(result.predictions[i]))
        groups.setdefault(pair, []).append(i)
    order = sorted(groups, key=lambda pair: (-len(groups[pair]), pair))[:count]
    return [(*pair, np.array(groups[pair])) for pair in order]


def calibration(confidences, right, bins: int = _BINS):
    """Returns the calibration curve and the expected calibration error (Guo et al., 2017).

    Args:
        confidences: float (N,) in [0, 1], the probability of each prediction.
        right: bool (N,).
        bins: equally wide bins of confidence.

    Returns:
        [(mean confidence, accuracy, examples)] of every bin that has examples, and the error: the
        mean over examples of the distance between the two.
    """
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
    parts = [
        f"<p>Accuracy <b>{_per_cent(result.metrics['accuracy'])}</b> among "
        f"{len(result.data.class_names):,} classes; templates: {_text(result.templates)}.</p>"
    ]
    parts += _per_class(result) + _confusions(result) + _calibration(result)
    return parts


def _per_class(result):
    names = result.data.class_names
    ordered = sorted(
        ((accuracy, label, count) for label, (accuracy, count) in result.per_class().items()),
    )

    def bars(rows):
        lines = "".join(
            f'<div class="class"><span title="{_text(names[label])}">{_text(names[label])}</span>'
            f'<div class="track"><div class="fill" style="width:{100 * accuracy:.1f}%"></div></div>'
            f'<span class="number">{_per_cent(accuracy)} of {count}</span></div>'
            for accuracy, label, count in rows
        )
        return f'<div class="classes">{lines}</div>'

    parts = ["<h3>Accuracy per class, the worst first</h3>"]
    few = 40
    if len(ordered) <= few:
        return [*parts, bars(ordered)]
    return [
        *parts,
        bars(ordered[: few // 2]),
        f"<details><summary>all {len(ordered):,} classes</summary>{bars(ordered)}</details>",
    ]


def _confusions(result):
    pairs = confused_pairs(result, _PAIRS)
    if not pairs:
        return ["<h3>Most confused pairs</h3><p>No image was classified wrongly.</p>"]
    chosen = [_spread(members, _PICTURES_PER_PAIR) for _, _, members in pairs]
    pictures = thumbnails(result.data.images, result.rows[np.concatenate(chosen)])
    of_class = {label: count for label, (_, count) in result.per_class().items()}
    cards = []
    for (label, predicted, members), shown in zip(pairs, chosen, strict=True):
        names = result.data.class_names
        cards.append(
            f'<div class="card"><b class="right">{_text(names[label])}</b> taken for '
            f'<b class="wrong">{_text(names[predicted])}</b>: {len(members):,} of '
            f'{counted(of_class[label], "image")}<div class="pictures">'
            + "".join(_picture(pictures[int(result.rows[i])]) for i in shown)
            + "</div></div>"
        )
    return ["<h3>Most confused pairs</h3>", f'<div class="pairs">{"".join(cards)}</div>']


def _calibration(result):
    if result.confidences is None:
        return []
    curve, error = calibration(result.confidences, result.right)
    side, left, top = 260, 44, 10

    def at(x, y):
        return f"{left + x * side:.1f},{top + (1 - y) * side:.1f}"

    most = max(count for _, _, count in curve)
    marks = "".join(
        f'<circle cx="{left + x * side:.1f}" cy="{top + (1 - y) * side:.1f}" r="'
        f'{2 + 5 * (count / most) ** 0.5:.1f}" fill="var(--bar)"><title>confidence {x:.2f}, '
        f"accuracy {y:.2f}, {counted(count, 'image')}</title></circle>"
        for x, y, count in curve
    )
    line = " ".join(at(x, y) for x, y, _ in curve)
    ticks = "".join(
        f'<text x="{left + v * side}" y="{top + side + 18}" text-anchor="middle">{v:g}</text>'
        f'<text x="{left - 8}" y="{top + (1 - v) * side + 4}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    svg = (
        f'<svg width="{left + side + 20}" height="{top + side + 42}" role="img" '
        f'aria-label="calibration curve"><rect x="{left}" y="{top}" width="{side}" '
        f'height="{side}" fill="var(--tint)"/><line x1="{left}" y1="{top + side}" '
        f'x2="{left + side}" y2="{top}" stroke="var(--soft)" stroke-dasharray="4 4"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--bar)" stroke-width="2"/>{marks}'
        f'{ticks}<text x="{left + side / 2}" y="{top + side + 36}" text-anchor="middle">'
        f'confidence</text><text x="12" y="{top + side / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {top + side / 2})">accuracy</text></svg>'
    )
    return [
        "<h3>Calibration</h3>",
        f"<p>Expected calibration error {_per_cent(error)} over {_BINS} bins; the size of a mark "
        "shows how many images it stands for. Below the dashed line the model is too sure.</p>",
        svg,
    ]


# --- Retrieval ------------------------------------------------------------------------------------


def _retrieval(result):
    return [*_texts_to_images(result), *_images_to_texts(result)]


def _top(queries, candidates):
    """Returns the indices of the most similar candidates of each query, best first."""
    order = np.argsort(-(queries @ candidates.T), axis=1, kind="stable")
    return order[:, :_TOP]


def _right_and_wrong(ranks):
    return (
        ("right", _spread(np.flatnonzero(ranks == 0), _EXAMPLES)),
        ("wrong", _spread(np.flatnonzero(ranks > 0), _EXAMPLES)),
    )


def _texts_to_images(result):
    parts = ["<h3>Images found by a caption</h3>"]
    parts.append(f'<p class="soft">The {_TOP} most similar; its own image is outlined.</p>')
    for word, queries in _right_and_wrong(result.text_ranks):
        if not len(queries):
            continue
        top = _top(result.ztxt[queries], result.zimg)
        own = result.correspondence[queries]
        pictures = thumbnails(result.data.images, result.rows[[*top.ravel(), *own]])
        cards = []
        for query, found, mine in zip(queries, top, own, strict=True):
            rank = int(result.text_ranks[query])
            shown = "".join(
                _picture(pictures[int(result.rows[i])], own=bool(i == mine)) for i in found
            )
            if rank >= _TOP:
                shown += _picture(pictures[int(result.rows[mine])], f"rank {rank + 1}", own=True)
            cards.append(
                f'<div class="card"><b class="{word}">{_text(result.captions[query])}</b>'
                f'<div class="pictures">{shown}</div></div>'
            )
        parts.append(f"<p>First image {word}:</p>")
        parts.append(f'<div class="pairs">{"".join(cards)}</div>')
    return parts


def _images_to_texts(result):
    parts = ["<h3>Captions found by an image</h3>"]
    parts.append(f'<p class="soft">The {_TOP} most similar; its own captions are green.</p>')
    for word, queries in _right_and_wrong(result.image_ranks):
        if not len(queries):
            continue
        top = _top(result.zimg[queries], result.ztxt)
        pictures = thumbnails(result.data.images, result.rows[queries])
        cards = []
        for query, found in zip(queries, top, strict=True):
            rank = int(result.image_ranks[query])
            lines = "".join(
                f'<li class="{"right" if result.correspondence[i] == query else "wrong"}">'
                f"{_text(result.captions[i])}</li>"
                for i in found
            )
            caption = f"rank {rank + 1}" if rank else ""
            cards.append(
                f'<div class="card query">{_picture(pictures[int(result.rows[query])], caption)}'
                f"<ol>{lines}</ol></div>"
            )
        parts.append(f"<p>First caption {word}:</p>")
        parts.append(f'<div class="pairs">{"".join(cards)}</div>')
    return parts
