"""One training step as one replica runs it: embed, loss, gradients, update.

`ReplicaStep` is the whole computation of a step and nothing else: no strategy, no loop, no host.
The training loop calls it through `strategy.run`; the TPU preflight compiles it as it is, with
another `Collectives`.
"""

import tensorflow as tf

from . import gradient_cache
from .distribution.collectives import Collectives
from .losses import LOSSES

# The class token's position row is a constant of the model, zeros in all that training starts from.
_NEVER_TRAINED = ("img/cls_pos_embedding",)


def trainable_parameters(model, *, lock_image: bool) -> dict[str, tf.Variable]:
    """Returns {canonical name: tf.Variable} of what training may change.

    Args:
        model: A `lit_tf.LitModel`.
        lock_image: Leave out everything under `img/`.
    """
    return {
        name: variable.value
        for name, variable in model.canonical_variables().items()
        if name not in _NEVER_TRAINED and not (lock_image and name.startswith("img/"))
    }


def all_parameters(model) -> dict[str, tf.Variable]:
    """Returns {canonical name: tf.Variable} of every parameter, locked ones included."""
    return {name: variable.value for name, variable in model.canonical_variables().items()}


class ReplicaStep:
    """A train step, to be called in replica context with a replica's share of the batch.

    Args:
        model: A built `lit_tf.LitModel` with both towers. Its dtype policy decides the precision in
            which towers compute; parameters, embeddings and loss are float32.
        optimizer: An `optimizers.Optimizer` over `trainable_parameters(model, ...)`.
        loss: "softmax" or "sigmoid".
        lock_image: Run the image tower outside the tape and without dropout.
        seed: Seed of dropout.
        loss_chunk: Rows of logits to hold at a time, 0 for all (see `losses`).
        cache_chunk: Examples to embed at a time with gradient caching, 0 for none (see
            `gradient_cache`).
        collectives: How to reach other replicas.
    """

    def __init__(
        self,
        model,
        optimizer,
        *,
        loss="softmax",
        lock_image=True,
        seed=0,
        loss_chunk=0,
        cache_chunk=0,
        collectives=None,
    ):
        self.model, self.optimizer = model, optimizer
        self.collectives = collectives or Collectives()
        self._loss, self._loss_chunk = LOSSES[loss], loss_chunk
        self._lock_image = lock_image
        self._seed, self._cache_chunk = seed, cache_chunk

    def __call__(self, batch):
        """Takes one step.

        Args:
            batch: {"tokens": int32 (local batch, length)} and either {"image": uint8, or float32 in
                [-1, 1], (local batch, side, side, 3)} or {"image_embedding": float32 (local batch,
                width), of the locked tower}. Static shapes.

        Returns:
            {"loss" (before the update), "l2_grads", "schedule"}, float32 scalars, equal on every
            replica.
        """
        share, gradients = self.loss_and_gradients(batch)
        names = list(gradients)
        # Sums of shares are means over the global batch. They are reduced before the optimizer
        # clips them: the norm that counts is the global batch's.
        *reduced, loss = self.collectives.all_reduce([*gradients.values(), share])
        metrics = self.optimizer.step(dict(zip(names, reduced, strict=True)), self.collectives)
        return {"loss": loss, **metrics}

    def loss(self, batch):
        """Returns the loss over the global batch, without dropout; changes nothing.

        Args:
            batch: As for a step.
        """
        z = {
            "img": self._embed_images(_image_input(batch), None),
            "txt": self._embed_tokens(batch["tokens"], None),
        }
        return self.collectives.all_reduce([self._loss_of(z)])[0]

    def loss_and_gradients(self, batch):
        """Returns this replica's (share of the loss, {name: share of the gradient})."""
        seed = self._dropout_seed()
        towers = {"img": self._embed_images, "txt": self._embed_tokens}
        inputs = {"img": _image_input(batch), "txt": batch["tokens"]}
        z = {}
        if self._lock_image:
            embed = towers.pop("img")
            z["img"] = tf.stop_gradient(embed(inputs["img"], None))

        return gradient_cache.loss_and_gradients(
            towers,
            inputs,
            z,
            self._loss_of,
            self.optimizer.parameters,
            width=self.model.config.embedding_dim,
            seed=seed,
            chunk=self._cache_chunk,
        )

    def _loss_of(self, z):
        """This replica's share of the loss of {"img": ..., "txt": ...} embeddings."""
        parameters = self.model.canonical_variables()
        b = parameters.get("b")
        return self._loss(
            z["img"],
            z["txt"],
            parameters["t"].value,
            None if b is None else b.value,
            collectives=self.collectives,
            chunk=self._loss_chunk,
        )

    def _dropout_seed(self):
        """The seed of this step on this replica, int32 (2,): the same again after a resume."""
        fold_in = tf.random.experimental.stateless_fold_in
        seed = fold_in(tf.constant([self._seed, 0]), tf.cast(self.optimizer.iterations, tf.int32))
        return fold_in(seed, self.collectives.replica_id())

    def _embed_images(self, images, seed):
        if images.shape.rank == 2:
            # Stored embeddings; those of augmented views may come unnormalized.
            return tf.math.divide_no_nan(images, tf.norm(images, axis=-1, keepdims=True))
        if images.dtype == tf.uint8:
            # Within an ulp of `lit_tf.images.normalize`, whose float64 a TPU could only emulate.
            images = tf.cast(images, tf.float32) / 127.5 - 1.0
        return self.model.embed_images(images)

    def _embed_tokens(self, tokens, seed):
        return self.model.embed_tokens(tokens, training=seed is not None, dropout_seed=seed)


def _image_input(batch):
    return batch["image_embedding"] if "image_embedding" in batch else batch["image"]
