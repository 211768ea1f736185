"""One training step as one replica runs it: embed, loss, gradient, reduce, clip, update.

The training loop calls `ReplicaStep` through `strategy.run`; the TPU preflight compiles it.
"""

import tensorflow as tf

from lit_tf.contrastive import gradient_cache
from lit_tf.contrastive.collectives import Collectives
from lit_tf.contrastive.config import trains
from lit_tf.contrastive.losses import loss_function
from lit_tf.contrastive.optimizers import clip_by_global_norm


class ReplicaStep:
    """A train step, to be called in replica context with a replica's share of the batch.

    What the optimizer's parameters do not hold is locked. A locked tower runs without dropout, and
    the image tower then outside the tape. `observe` is called with what the loss is computed of.
    """

    def __init__(self, model, optimizer, loss, *, seed=0, collectives=None, observe=None):
        self.model, self.optimizer = model, optimizer
        self.collectives = collectives or Collectives()
        self._loss_config, self._seed, self._observe = loss, seed, observe
        self._loss = loss_function(loss.name)
        names = optimizer.parameters
        self._lock_image = not any(name.startswith("img/") for name in names)
        self._lock_text = not any(n.startswith("txt/") and "/head/" not in n for n in names)

    def __call__(self, batch):
        """Returns {"loss", "l2_grads", "schedule"} of a step, the first two as before it: scalars.

        `batch` is {"tokens": int32 (local batch, length)} and either {"image": uint8, or float32 in
        [-1, 1], (local batch, side, side, 3)} or {"image_embedding": float32 (local batch, width),
        of the locked tower}. Static shapes.
        """
        share, gradients = self.loss_and_gradients(batch)
        # Shares add up to the mean over the global batch. So do their gradients.
        *sums, loss = self.collectives.all_reduce([*gradients.values(), share])
        gradients = dict(zip(gradients, sums, strict=True))
        # Clipped after the reduction, because the norm that counts is the global batch's.
        gradients, norm = clip_by_global_norm(gradients, self.optimizer.config.clip)
        schedule = self.optimizer.update(gradients, self.collectives)
        return {"loss": loss, "l2_grads": norm, "schedule": schedule}

    def loss_and_gradients(self, batch):
        """Returns this replica's (share of the loss, {name: share of the gradient})."""
        images, tokens = _image_input(batch), batch["tokens"]
        parameters = self.optimizer.parameters
        seed = self._dropout_seed()
        locked = tf.stop_gradient(self.embed_images(images)) if self._lock_image else None
        if self._loss_config.cache_chunk:
            return self._cached(images, tokens, locked, seed)

        variables = list(parameters.values())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            zimg = self.embed_images(images) if locked is None else locked  # (local batch, width)
            ztxt = self.embed_tokens(tokens, seed)  # (local batch, width)
            share = self.loss_share(zimg, ztxt)
            target = self.optimizer.scale_loss(share)
        gradients = tape.gradient(target, variables, unconnected_gradients="zero")
        return share, dict(zip(parameters, map(tf.convert_to_tensor, gradients), strict=True))

    def loss_share(self, zimg, ztxt):
        """Returns this replica's share of the loss of embeddings (local batch, width).

        The temperature exp(t) is not clipped, neither here nor anywhere else.
        """
        if self._observe:
            self._observe(zimg, ztxt)
        variables = all_parameters(self.model)
        how = {"collectives": self.collectives, "chunk": self._loss_config.chunk}
        return self._loss(zimg, ztxt, variables["t"], variables.get("b"), **how)

    def loss(self, batch):
        """Returns the loss over the global batch, without dropout; changes nothing."""
        zimg = self.embed_images(_image_input(batch))
        ztxt = self.embed_tokens(batch["tokens"])
        return self.collectives.all_reduce([self.loss_share(zimg, ztxt)])[0]

    def embed_images(self, images):
        """Returns unit-length embeddings (n, width) of pixels, or of stored embeddings."""
        if isinstance(images, dict):  # NaFlex
            return self.model.embed_images(images)
        if images.shape.rank == 2:
            # Stored embeddings; those of augmented views may come unnormalized.
            return tf.math.divide_no_nan(images, tf.norm(images, axis=-1, keepdims=True))
        if images.dtype == tf.uint8:
            # Within an ulp of `lit_tf.images.normalize`, whose float64 a TPU could only emulate.
            images = tf.cast(images, tf.float32) / 127.5 - 1.0
        return self.model.embed_images(images)

    def embed_tokens(self, tokens, seed=None):
        """Returns unit-length embeddings (n, width) of tokens; with a seed, under dropout."""
        training = seed is not None and not self._lock_text
        return self.model.embed_tokens(tokens, training=training, dropout_seed=seed)

    def _cached(self, images, tokens, locked, seed):
        """`loss_and_gradients` with only a chunk of the batch in the towers at a time."""
        towers = {"zimg": lambda x, seed: self.embed_images(x), "ztxt": self.embed_tokens}
        known = {} if locked is None else {"zimg": locked}
        return gradient_cache.loss_and_gradients(
            {name: tower for name, tower in towers.items() if name not in known},
            {"zimg": images, "ztxt": tokens},
            lambda computed: self.loss_share(**known, **computed),
            self.optimizer.parameters,
            width=self.model.config.embedding_dim,
            seed=seed,
            chunk=self._loss_config.cache_chunk,
        )

    def _dropout_seed(self):
        """The seed of this step on this replica, int32 (2,): the same again after a resume."""
        fold_in = tf.random.experimental.stateless_fold_in
        seed = fold_in(tf.constant([self._seed, 0]), tf.cast(self.optimizer.iterations, tf.int32))
        return fold_in(seed, self.collectives.replica_id())


def trainable_parameters(model, locking: str) -> dict[str, tf.Variable]:
    """Returns {canonical name: tf.Variable} of what training may change."""
    return {name: v for name, v in all_parameters(model).items() if trains(name, locking)}


def all_parameters(model) -> dict[str, tf.Variable]:
    """Returns {canonical name: tf.Variable} of every parameter, locked ones included."""
    return {name: variable.value for name, variable in model.canonical_variables().items()}


def _image_input(batch):
    return batch["image_embedding"] if "image_embedding" in batch else batch["image"]
