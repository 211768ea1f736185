"""Exact gradients of a contrastive loss, with the towers run a chunk of the batch at a time.

Accumulating gradients over small batches would change the loss, because a contrastive loss compares
every example with the whole batch. But the loss sees the towers only through their embeddings, so
the chain rule can be cut there ("Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", arXiv:2101.06983):

1. Embed all chunks, and keep only the embeddings.
2. Take the loss and its gradient at the embeddings.
3. Embed each chunk again, and go back from the gradient of its embeddings.

The result is the gradient of the whole batch. Memory holds the activations of one chunk, and the
price is one more forward pass. A chunk draws the same dropout masks both times.
"""

import tensorflow as tf


def loss_and_gradients(towers, inputs, loss_of, parameters, *, width, seed, chunk):
    """Returns (share of the loss, {name: dense gradient of it}) through the given towers.

    `towers` is {name: function(inputs, seed) -> (n, width)}, `inputs` {name: (local batch, ...)},
    `loss_of` a function of {name: (local batch, width)}; `chunk` divides the local batch.
    """
    variables = list(parameters.values())
    local = next(iter(inputs.values())).shape[0]

    def embed(name, i):
        """Embeds chunk number i, under dropout masks of its own."""
        begin = [i * chunk] + [0] * (inputs[name].shape.rank - 1)
        shape = [chunk, *inputs[name].shape[1:]]
        rows = tf.ensure_shape(tf.slice(inputs[name], begin, shape), shape)
        return towers[name](rows, tf.random.experimental.stateless_fold_in(seed, i))

    def embed_chunk(i, *embedded):
        rows = (i * chunk + tf.range(chunk))[:, tf.newaxis]
        return i + 1, *(
            tf.tensor_scatter_nd_update(z, rows, embed(name, i))
            for name, z in zip(towers, embedded, strict=True)
        )

    # 1. Embeddings only.
    _, *embedded = loop(local // chunk, embed_chunk, [tf.zeros([local, width]) for _ in towers])

    # 2. The loss, its gradient at the embeddings and at its own parameters.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([variables, embedded])
        share = loss_of(dict(zip(towers, embedded, strict=True)))
    upstream, own = tape.gradient(share, [embedded, variables], unconnected_gradients="zero")

    # 3. Each chunk again, and back from the gradient of its embeddings.
    def differentiate_chunk(i, *gradients):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            again = [embed(name, i) for name in towers]
        more = tape.gradient(
            again,
            variables,
            output_gradients=[tf.slice(z, [i * chunk, 0], [chunk, width]) for z in upstream],
            unconnected_gradients="zero",
        )
        return i + 1, *(g + tf.convert_to_tensor(m) for g, m in zip(gradients, more, strict=True))

    own = list(map(tf.convert_to_tensor, own))
    _, *gradients = loop(local // chunk, differentiate_chunk, own)
    return share, dict(zip(parameters, gradients, strict=True))


def loop(times, body, state):
    """Runs body(i, *state) `times` times, one after the other (in parallel, all would be held)."""
    return tf.while_loop(
        lambda i, *_: i < times,
        body,
        [tf.constant(0), *state],
        parallel_iterations=1,
        maximum_iterations=times,
    )
