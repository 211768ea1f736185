"""Measured figures beside published ones."""

import pathlib

from lit_tf.checkpoints import registry

from .protocol import Result, RetrievalResult

HEADS = ["dataset", "split", "figure", "images", "measured", "published", "difference", "images/s"]

# The names of retrieval figures in the registry.
_WAYS = {"img2txt/Recall@1": "i2t", "txt2img/Recall@1": "t2i"}


def published_name(name_or_path: str, resolution: int | None = None) -> str | None:
    """Returns the name of the published model that a name or a file name means, or None."""
    model = registry.find_published(str(name_or_path))
    if model is None:
        stem = pathlib.PurePosixPath(str(name_or_path)).name.removesuffix(".npz")
        model = registry.find_published(stem)
    if model is None or resolution not in (None, model.resolution):
        return None
    return model.name


def figure(model: str | None, result: Result, metric: str) -> float | None:
    """Returns the published figure of a model, as a share in [0, 1]."""
    if model is None or not result.standard:
        return None
    name = result.dataset
    if isinstance(result, RetrievalResult):
        name = f"{name}/{_WAYS.get(metric)}"
    per_cent = registry.MODELS[model].figures.get(name)
    return None if per_cent is None else per_cent / 100


def comparison(model: str | None, results: list[Result]) -> list[dict]:
    """Returns one row per figure, with "measured", "published" and "difference" as shares."""
    rows = []
    for result in results:
        for i, (metric, value) in enumerate(result.metrics.items()):
            known = figure(model, result, metric)
            difference = None if known is None else value - known
            rate = None if i else result.images_per_second  # images are embedded once
            row = {"dataset": result.dataset, "split": result.split, "figure": metric}
            row |= {"images": result.images_of(metric), "measured": value, "published": known}
            rows.append({**row, "difference": difference, "images_per_second": rate})
    return rows


def as_table(rows: list[dict]) -> list[list[str]]:
    """Returns a comparison as a table of strings with a row of heads; figures in per cent."""
    table = [HEADS]
    for row in rows:
        rate = row["images_per_second"]
        table.append(
            [
                row["dataset"],
                row["split"] or "-",
                row["figure"],
                f"{row['images']:,}",
                f"{100 * row['measured']:.2f}",
                "-" if row["published"] is None else f"{100 * row['published']:.1f}",
                "-" if row["difference"] is None else f"{100 * row['difference']:+.2f}",
                "-" if rate is None else f"{rate:,.1f}",
            ]
        )
    return table
