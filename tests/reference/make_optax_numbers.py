"""Writes expected/optax.npz: steps of optax's Adam under multipliers by name, as big_vision has it.

    pip install optax==0.2.8 jax==0.10.2  # in an environment of its own
    python tests/reference/make_optax_numbers.py

big_vision chains clipping, Adam, the learning rate, its multipliers, weight decay and the schedule.
Of several patterns, the first that matches a parameter's whole name counts.
"""

import pathlib
import re

import jax.numpy as jnp
import numpy as np
import optax

SHAPES = {"img/head/kernel": (4, 3), "txt/head/kernel": (5, 3), "txt/head/bias": (3,), "t": (1,)}
LR_MULTS = (("txt/head/bias", 0.5), ("txt/head/.*", 10.0), ("img/.*", 0.1))
WD_MULTS = (("txt/.*kernel", 2.0), (".*kernel", 1.0), ("t", 0.25))
LR, WEIGHT_DECAY, CLIP, TOTAL, WARMUP, STEPS = 1e-2, 1e-1, 2.0, 10, 3, 8


def masked(mults, transform):
    """Returns a transformation for each pattern, of the parameters that it is the first to match."""
    first = {n: next((p for p, _ in mults if re.fullmatch(p, n)), None) for n in SHAPES}
    return [
        optax.masked(transform(factor), {n: p == pattern for n, p in first.items()})
        for pattern, factor in mults
    ]


def schedule(step):
    """Linear warmup from 0, then half a cosine to 0."""
    progress = np.clip((step - WARMUP) / (TOTAL - WARMUP), 0.0, 1.0)
    return 0.5 * (1 + np.cos(np.pi * progress)) * np.minimum(1.0, step / WARMUP)


def main():
    """Writes the gradients and the parameters before and after each step, all float32."""
    rng = np.random.default_rng(0)
    parameters = {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}
    table = jnp.array([schedule(step) for step in range(TOTAL)], jnp.float32)
    chain = optax.chain(
        optax.clip_by_global_norm(CLIP),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale(LR),
        *masked(LR_MULTS, optax.scale),
        *masked(WD_MULTS, lambda factor: optax.add_decayed_weights(WEIGHT_DECAY * factor)),
        optax.scale_by_schedule(lambda count: table[count]),
        optax.scale(-1.0),
    )
    state, written = chain.init(parameters), {}
    for step in range(STEPS):
        gradients = {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}
        updates, state = chain.update(gradients, state, parameters)
        written |= {f"gradients/{step}/{n}": g for n, g in gradients.items()}
        written |= {f"parameters/{step}/{n}": np.asarray(p) for n, p in parameters.items()}
        parameters = optax.apply_updates(parameters, updates)
    written |= {f"parameters/{STEPS}/{n}": np.asarray(p) for n, p in parameters.items()}
    np.savez(pathlib.Path(__file__).parent / "expected" / "optax.npz", **written)


if __name__ == "__main__":
    main()
