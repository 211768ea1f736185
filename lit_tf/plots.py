"""Pictures of results; needs matplotlib, which the extra `demo` installs."""

import os
import pathlib
import textwrap
import warnings

import numpy as np

from lit_tf import files
from lit_tf.errors import LitError, extra

_DRAWN = 400  # cells; more would not be readable


def heat_map(path, similarities, images, texts, title=None, match=None):
    """Draws which text fits which image: the images above, the texts beside, as in CLIP's paper.

    Each image's best text is framed.

    Args:
        path: where to write; the suffix tells the format (.png, .pdf, .svg).
        similarities: float (N, M), cosines of N images and M texts.
        images: N uint8 arrays (H, W, 3), of any sizes.
        texts: M strings.
        title: what to write on top.
        match: None, or float (N, M): the probability that a text fits an image, which is written
            below the cosine.

    Raises:
        MissingPackageError: matplotlib is not installed.
        LitError: the picture cannot be written, or there are too many cells to read.
    """
    with extra("demo"):
        from matplotlib import figure, patches
    similarities = np.asarray(similarities)
    columns, rows = similarities.shape
    if columns * rows > _DRAWN:
        raise LitError(
            f"A heat map of {columns} images and {rows} texts has {columns * rows} cells; it can "
            f"show at most {_DRAWN}. Choose fewer."
        )
    labels = [" ".join(text.split()) for text in texts]
    labels = ["\n".join(textwrap.wrap(text, 44, max_lines=2)) or '""' for text in labels]
    # Inches: a cell has room for its number, and there is room for the labels beside the cells.
    beside = 0.085 * max(len(line) for label in labels for line in label.split("\n"))
    above = 1.01 * min(1, max(image.shape[0] / image.shape[1] for image in images))
    size = (1.1 * columns + beside + 1.2, 0.62 * rows + above)
    drawing = figure.Figure(size, layout="constrained")
    drawing.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    grid = drawing.add_gridspec(2, columns, height_ratios=(above, 0.62 * rows))
    axes = drawing.add_subplot(grid[1, :])
    colours = axes.imshow(similarities.T, aspect="auto", cmap="viridis")
    _write_values(axes, similarities, match, colours.get_clim())
    framed = {"fill": False, "edgecolor": "red", "linewidth": 2.5}
    for column, row in enumerate(similarities.argmax(axis=1)):
        axes.add_patch(patches.Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, **framed))
    axes.set_xticks([])
    axes.set_yticks(range(rows), labels, fontsize=11, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for column, image in enumerate(images):
        box = drawing.add_subplot(grid[0, column])
        box.imshow(_shrink(image), interpolation="antialiased")
        box.set_anchor("S")
        box.axis("off")
    drawing.colorbar(colours, ax=axes, fraction=0.14 / columns, aspect=30)
    if title:
        drawing.suptitle(title, fontsize=12, parse_math=False)
    _save(drawing, path)


def attention_map(model, image, text, path=None):
    """Returns which parts of a picture speak for a text; with a path, draws them over the picture.

    By the gradient-weighted attention of all layers (`ViT.relevance`, arXiv:2103.15679). It is an
    explanation of the model's answer, not a proof of what the model looked at.

    Args:
        model: a `LitModel` with both towers and a vocabulary.
        image: as for `encode_image`: a path, bytes, an array or a PIL image.
        text: a string.
        path: where to write the drawing; the suffix tells the format (.png, .pdf, .svg).

    Returns:
        float32 (rows, columns) of the patches, at least 0.

    Raises:
        MissingPackageError: matplotlib is not installed.
        LitError: the picture cannot be written.
    """
    from lit_tf.images import preprocessing
    from lit_tf.images.preparation import preparation

    if model.tower("image").config.naflex:
        raise LitError("attention_map is not for NaFlex models, whose patches are not a square")
    pixels = preprocessing.to_uint8(image)
    seen = preparation(model.config)(pixels).numpy()
    (direction,) = model.encode_text([text])
    tower = model.tower("image")
    relevance = tower.relevance(preprocessing.normalize(seen[None]), direction).numpy()
    relevance = relevance.astype(np.float32).reshape(tower.config.grid, tower.config.grid)
    if path is not None:
        _draw_over(path, seen if model.config.crop else pixels, relevance, text)
    return relevance


def _draw_over(path, pixels, relevance, text):
    with extra("demo"):
        from matplotlib import figure
    height, width = pixels.shape[:2]
    drawing = figure.Figure((8, 4 * height / width + 0.6), layout="constrained")
    for number, axes in enumerate(drawing.subplots(1, 2)):
        axes.imshow(_shrink(pixels), extent=(0, width, height, 0), interpolation="antialiased")
        if number:
            least = relevance / max(relevance.max(), 1e-12)
            how = {"cmap": "inferno", "alpha": 0.25 + 0.5 * least, "interpolation": "bilinear"}
            axes.imshow(least, extent=(0, width, height, 0), **how)
        axes.axis("off")
    title = textwrap.wrap(" ".join(text.split()), 70, max_lines=2)
    drawing.suptitle("\n".join(title), parse_math=False)
    _save(drawing, path)


def _save(drawing, path):
    """Writes a drawing; wide texts are not cut off."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # no font here has every script
        try:
            with files.replacing(path) as f:
                kind = pathlib.PurePath(path).suffix[1:] or "png"
                drawing.savefig(f, format=kind, dpi=150, bbox_inches="tight")
        except (OSError, ValueError) as e:  # ValueError: no such format
            raise LitError(f"{os.fspath(path)} cannot be written: {e}") from None


def _write_values(axes, similarities, match, limits):
    middle = sum(limits) / 2
    for (column, row), value in np.ndenumerate(similarities):
        axes.text(
            column,
            row,
            f"{value:.2f}" if match is None else f"{value:.2f}\n{100 * match[column][row]:.1f} %",
            ha="center",
            va="center",
            fontsize=12 if match is None else 10,
            color="white" if value < middle else "black",
        )


def _shrink(image, side=512):
    """Returns an image without the pixels that a thumbnail has no room for."""
    step = max(1, min(image.shape[:2]) // side)
    return image[::step, ::step]
