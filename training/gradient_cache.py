"""Exact gradients of a contrastive loss, with the towers run a chunk of the batch at a time.

Accumulating gradients over small batches would change the loss: a contrastive loss compares every
example with the whole batch. But the loss sees the towers only through their embeddings, so the
chain rule can be cut there ("Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", arXiv:2101.06983): embed all chunks and keep nothing but the embeddings; take the loss and
its gradient at the embeddings; then run each chunk again, and back, from the gradient that belongs
to its embeddings. The result is the whole batch's gradient, activations are one chunk's, and the
price is one more forward pass. A chunk draws the same dropout masks both times.
"""

import tensorflow as tf


def loss_and_gradients(towers, inputs, z, loss_of, parameters, *, width, seed, chunk=0):
    """Loss and its gradients through the given towers.

    Args:
        towers: {"img" and/or "txt": function(inputs, seed) -> embeddings (n, width)} to
            differentiate through.
        inputs: {tower: its inputs, (local batch, ...)}.
        z: {tower: embeddings (local batch, width)} of the towers that are locked.
        loss_of: Function from {"img": ..., "txt": ...} embeddings to this replica's share of the
            loss, a scalar.
        parameters: {name: tf.Variable} to differentiate by: the towers' and the loss's own.
        width: Width of the embeddings.
        seed: int32 (2,), from which the towers draw their dropout.
        chunk: Examples per chunk, a divisor of the local batch. 0 takes the batch at once, without
            a second pass.

    Returns:
        (share of the loss, {name: dense gradient of it}).
    """
    names, variables = list(parameters), list(parameters.values())
    if not chunk:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            z = {**z, **{k: embed(inputs[k], seed) for k, embed in towers.items()}}
            share = loss_of(z)
        gradients = tape.gradient(share, variables, unconnected_gradients="zero")
        return share, dict(zip(names, map(tf.convert_to_tensor, gradients), strict=True))

    local = inputs["txt"].shape[0]
    chunks = local // chunk

    def slices(i, k):
        x = inputs[k]
        begin = tf.concat([[i * chunk], tf.zeros([x.shape.rank - 1], tf.int32)], 0)
        return tf.ensure_shape(
            tf.slice(x, begin, [chunk, *x.shape[1:]]), [chunk, *x.shape[1:]]
        ), tf.random.experimental.stateless_fold_in(seed, i)

    # First pass: embeddings only.
    def embed_chunk(i, *embedded):
        rows = (i * chunk + tf.range(chunk))[:, tf.newaxis]
        return i + 1, *(
            tf.tensor_scatter_nd_update(done, rows, embed(*slices(i, k)))
            for done, (k, embed) in zip(embedded, towers.items(), strict=True)
        )

    _, *embedded = _loop(chunks, embed_chunk, [tf.zeros([local, width]) for k in towers])
    z = {**z, **dict(zip(towers, embedded, strict=True))}

    # The loss, its gradient at the embeddings and at its own parameters.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        tape.watch([z[k] for k in towers])
        share = loss_of(z)
    at_z, own = tape.gradient(
        share, [{k: z[k] for k in towers}, variables], unconnected_gradients="zero"
    )

    # Second pass: each chunk again, and back from its embeddings' gradient.
    def differentiate_chunk(i, *gradients):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            embedded = {k: embed(*slices(i, k)) for k, embed in towers.items()}
        upstream = {k: tf.slice(at_z[k], [i * chunk, 0], [chunk, width]) for k in towers}
        more = tape.gradient(
            embedded, variables, output_gradients=upstream, unconnected_gradients="zero"
        )
        return i + 1, *(g + tf.convert_to_tensor(m) for g, m in zip(gradients, more, strict=True))

    _, *gradients = _loop(chunks, differentiate_chunk, list(map(tf.convert_to_tensor, own)))
    return share, dict(zip(names, gradients, strict=True))


def _loop(times, body, state):
    """Runs body(i, *state) `times` times, one after the other (in parallel, all would be held)."""
    return tf.while_loop(
        lambda i, *_: i < times,
        body,
        [tf.constant(0), *state],
        parallel_iterations=1,
        maximum_iterations=times,
    )
