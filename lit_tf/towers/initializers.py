"""How untrained variables start, as in big_vision's ViT and flaxformer's BERT."""

import zlib

import numpy as np


def initial_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Returns the starting value of the variable at a tower's canonical name.

    Attention and MLP kernels of pre-norm blocks are Xavier uniform, their MLP biases tiny normal;
    BERT's kernels and tables are normal with 0.02 (BERT paper, appendix A.2); patch embedding and
    heads are LeCun normal; position embeddings normal with 1/sqrt(width).
    """
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{name}".encode()))
    last = name.rsplit("/", 1)[-1]
    normal = lambda scale: np.float32(scale) * rng.standard_normal(shape, dtype=np.float32)  # noqa: E731
    if last == "scale":
        return np.ones(shape, np.float32)
    if last in ("cls_pos_embedding", "cls"):
        return np.zeros(shape, np.float32)
    if last == "bias":
        return normal(1e-6) if "MlpBlock_0" in name else np.zeros(shape, np.float32)
    if name.startswith("BertEncoder_0/"):
        return normal(0.02)
    if last in ("pos_embedding", "embedding"):
        return normal(1 / np.sqrt(shape[-1]))
    # kernels: the contracted axes are the first ones, except that attention's output has two
    inputs = 1 if "/out/" not in name and len(shape) < 4 else len(shape) - 1
    fan_in, fan_out = int(np.prod(shape[:inputs])), int(np.prod(shape[inputs:]))
    if name.startswith(("embedding/", "head/")):
        return normal(1 / np.sqrt(fan_in))
    limit = np.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape).astype(np.float32)
