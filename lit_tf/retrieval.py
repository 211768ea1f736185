"""Image-text retrieval: Recall@k both ways, in blocks, so that memory stays bounded.

Nothing is sorted. What decides a query is how many candidates stand before its right answer, and
that can be counted block by block; only one block of similarities exists at a time.

Ties are real: the same caption stands under several images of COCO. A float32 matrix product may
add up in another order at the edge of a block, and equal embeddings would then differ in the last
bit, so similarities are summed in float64 and rounded to float32.
"""

from collections.abc import Sequence

import numpy as np

from lit_tf.errors import DataError


def ranks(
    zimg: np.ndarray, ztxt: np.ndarray, correspondence: np.ndarray, block: int = 2048
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many candidates stand before the right one, for every query, both ways.

    Candidates are ordered by descending dot product, equal ones by ascending index: the order of a
    stable sort. An image has several right texts; its best one counts.

    Args:
        zimg: float (N, D), the image embeddings; may be a memory map.
        ztxt: float (M, D), the text embeddings; may be a memory map.
        correspondence: int (M,), the image that each text belongs to; every image has a text.
        block: images and texts compared at a time; memory beside the arguments is about
            20 * block**2 bytes plus 60 bytes per image and text.

    Returns:
        int64 ranks of the images (N,) among the texts, and of the texts (M,) among the images; 0
        is best.

    Raises:
        DataError: shapes that do not fit, an image without a text, a text of an unknown image, or
            embeddings that are not finite.
    """
    zimg, ztxt, correspondence = _checked(zimg, ztxt, correspondence)
    own, best = _right_answers(zimg, ztxt, correspondence, block)
    n, m = len(zimg), len(ztxt)

    best_value = own[best]  # (N,)
    by_image = np.argsort(correspondence, kind="stable")
    image_rank, text_rank = np.zeros(n, np.int64), np.zeros(m, np.int64)
    for i0, i1, images in _blocks(zimg, block):
        first, last = np.searchsorted(correspondence, (i0, i1), sorter=by_image)
        mine = by_image[first:last]  # the texts of this block's images
        for t0, t1, texts in _blocks(ztxt, block):
            s = (images @ texts.T).astype(np.float32)  # (images, texts) of this block
            here = mine[(mine >= t0) & (mine < t1)]
            # A right answer does not stand before itself, whatever the last bit says.
            s[correspondence[here] - i0, here - t0] = -np.inf

            value, owner = own[t0:t1], correspondence[t0:t1]
            text_rank[t0:t1] += _before(s, value, owner, i0, i1)
            image_rank[i0:i1] += _before(s.T, best_value[i0:i1], best[i0:i1], t0, t1)
    return image_rank, text_rank


def recalls(
    zimg: np.ndarray,
    ztxt: np.ndarray,
    correspondence: np.ndarray,
    ks: Sequence[int] = (1, 5, 10),
    block: int = 2048,
) -> dict[str, float]:
    """Returns Recall@k of image-to-text and text-to-image retrieval.

    An image is a hit if any of its texts is among the k with the largest dot product; a text if
    its image is. Ties go to the smaller index.

    Args:
        zimg: float (N, D), the image embeddings.
        ztxt: float (M, D), the text embeddings.
        correspondence: int (M,), the image that each text belongs to.
        ks: the k of interest, each at least 1.
        block: as for `ranks`.

    Returns:
        {"img2txt/Recall@1": share in [0, 1], ..., "txt2img/Recall@10": ...}.

    Raises:
        DataError: as for `ranks`.
    """
    image_rank, text_rank = ranks(zimg, ztxt, correspondence, block)
    return recalls_of_ranks(image_rank, text_rank, ks)


def recalls_of_ranks(
    image_rank: np.ndarray, text_rank: np.ndarray, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Returns what `recalls` does, from the result of `ranks`."""
    if not len(ks) or not all(isinstance(k, int | np.integer) and k >= 1 for k in ks):
        raise DataError(f"Recall@k needs whole numbers k of at least 1, found {list(ks)}")
    both = (("img2txt", image_rank), ("txt2img", text_rank))
    return {f"{way}/Recall@{k}": float((rank < k).mean()) for way, rank in both for k in ks}


def _before(s, value, answer, start, stop):
    """Counts, for each query, the candidates that stand before its right answer.

    `s` (candidates, queries) holds the similarities of the candidates numbered from start to stop;
    `value` and `answer` (queries,) are those of the right answer, and its number. Before it stands
    what is larger, or equal with a smaller number.
    """
    later = answer >= stop  # every candidate has a smaller number, so equal ones count
    if later.all():
        return np.count_nonzero(s >= value, axis=0)
    count = np.count_nonzero(s > value, axis=0)
    if later.any():
        count[later] = np.count_nonzero(s[:, later] >= value[later], axis=0)
    inside = np.flatnonzero((answer >= start) & ~later)
    if inside.size:
        equal = s[:, inside] == value[inside]
        equal &= np.arange(start, stop)[:, None] < answer[inside]
        count[inside] += np.count_nonzero(equal, axis=0)
    return count


def _checked(zimg, ztxt, correspondence):
    zimg, ztxt = np.asanyarray(zimg), np.asanyarray(ztxt)
    correspondence = np.asarray(correspondence)
    if zimg.ndim != 2 or ztxt.ndim != 2 or zimg.shape[1] != ztxt.shape[1]:
        raise DataError(
            f"expected image embeddings (N, D) and text embeddings (M, D), found {zimg.shape} and "
            f"{ztxt.shape}"
        )
    if correspondence.dtype.kind not in "iu" or correspondence.shape != ztxt.shape[:1]:
        raise DataError(
            f"expected the image of each of the {len(ztxt)} texts, integers ({len(ztxt)},), found "
            f"{correspondence.dtype} {correspondence.shape}"
        )
    if not len(zimg) or not len(ztxt):
        raise DataError(f"retrieval needs images and texts, found {len(zimg)} and {len(ztxt)}")
    if correspondence.min() < 0 or correspondence.max() >= len(zimg):
        raise DataError(
            f"texts belong to images {correspondence.min()} to {correspondence.max()}, but there "
            f"are only {len(zimg)} images"
        )
    silent = np.flatnonzero(np.bincount(correspondence, minlength=len(zimg)) == 0)
    if silent.size:
        raise DataError(f"{silent.size} images lack a text (as number {silent[0]}): leave them out")
    return zimg, ztxt, correspondence.astype(np.int64)


def _blocks(z, block):
    """Yields start, stop and float64 rows of z."""
    for start in range(0, len(z), block):
        rows = np.asarray(z[start : start + block], np.float64)
        if not np.isfinite(rows).all():
            raise DataError("embeddings hold NaN or infinity: nothing can be retrieved with them")
        yield start, start + len(rows), rows


def _right_answers(zimg, ztxt, correspondence, block):
    """Returns each text's similarity to its image (M,), and each image's best text (N,)."""
    own = np.empty(len(ztxt), np.float32)
    for t0, t1, texts in _blocks(ztxt, block):
        wanted = correspondence[t0:t1] // block
        for b in np.unique(wanted):  # only the blocks that hold a right answer
            i0 = int(b) * block
            _, _, images = next(_blocks(zimg[i0 : i0 + block], block))
            here = np.flatnonzero(wanted == b)
            s = (images @ texts.T).astype(np.float32)
            own[t0 + here] = s[correspondence[t0 + here] - i0, here]
    # Of an image's texts the most similar, of equal ones the first: sort by (image, -similarity,
    # index) and take the first of each image.
    order = np.lexsort((np.arange(len(own)), -own, correspondence))
    first = np.searchsorted(correspondence[order], np.arange(len(zimg)))
    return own, order[first]
