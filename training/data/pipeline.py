"""From undecoded records to batches: decode, resize, augment, choose a caption, tokenize.

An example's random numbers are a function of the seed and of its position in the host's stream, so
parallel maps may run in any order. A bad record must not shift its successors: a resumed run would
have to decode all records before. So a good example of the previous batch's tail takes its place.
"""

import functools
import math

import tensorflow as tf

from lit_tf.errors import ConfigError
from lit_tf.images.decoding import decode_in_dataset
from lit_tf.images.preparation import Square

from . import augment, stream
from .counters import GOOD, Counters, status_of

# How many bad examples are described, not only named.
_DESCRIBED = 5


def make_train_dataset(
    source,
    tokenizer,
    *,
    global_batch_size,
    image_size,
    seed,
    start_step=0,
    input_context=None,
    counters=None,
):
    """Returns the endless training batches of this host, from a step on.

    Batch k is a pure function of (data, seed, k) and the number of hosts, including its order,
    augmentation and captions. With an input context, batches have a replica's size, and successive
    ones go to the host's replicas. Elements are {"image": uint8 (B, side, side, 3), a quarter of
    float32, or "image_embedding": float32 (B, D), "tokens": int32 (B, length)}. Too many bad
    examples end the dataset with an error that `counters.raising()` turns into a DataError.
    """
    counters, data_config = counters or Counters(), source.config
    source = source.shuffled(seed)
    counters.lose(source.lost, source.lost + sum(source.lengths))
    host, hosts, batch = _share_of(input_context, global_batch_size)
    per_host = global_batch_size // hosts
    pieces = stream.split_evenly(source.lengths, host, hosts)
    start = start_step * per_host
    # Reading starts one batch earlier, if there is one: bad examples are replaced from its tail.
    first = max(start - batch, 0)

    prepare = _preparation(source, data_config, data_config.augment, image_size, (seed, host))
    spares = _spares(data_config.max_bad_share, batch)

    def example(position, record):
        wanted = position >= start - spares
        return prepare(position, record, wanted)

    dataset = stream.records(source, pieces, data_config.shuffle_buffer, seed, first)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch, drop_remainder=True)
    dataset = _fill(dataset, spares).skip((start - first) // batch)
    counting = _counting(source, counters, data_config.max_bad_share)
    return _finished(dataset.map(counting), tokenizer)


def make_validation_dataset(
    source, tokenizer, *, global_batch_size, image_size, input_context=None, counters=None
):
    """Returns one pass over a source in its own order, unaugmented, with each example's first text.

    The last examples are left out if they do not fill a batch, because a contrastive loss depends
    on the size of its batch.
    """
    counters, data_config = counters or Counters(), source.config
    counters.lose(source.lost, source.lost + sum(source.lengths))
    host, hosts, batch = _share_of(input_context, global_batch_size)
    pieces = stream.split_evenly(source.lengths, host, hosts)
    steps = sum(p.take for p in pieces) // (global_batch_size // hosts)
    prepare = _preparation(source, data_config, "", image_size, None)
    dataset = stream.read_in_order(source, pieces)
    dataset = dataset.enumerate().map(
        lambda position, record: prepare(position, record, True),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    dataset = dataset.batch(batch, drop_remainder=True)
    dataset = dataset.take(steps * (global_batch_size // hosts // batch))
    dataset = _fill(dataset, _spares(data_config.max_bad_share, batch))
    counting = _counting(source, counters, data_config.max_bad_share)
    return _finished(dataset.map(counting), tokenizer)


def _share_of(input_context, global_batch_size):
    """Returns (number of this host, number of hosts, size of the batches that it makes)."""
    if input_context is None:
        return 0, 1, global_batch_size
    batch = input_context.get_per_replica_batch_size(global_batch_size)
    return input_context.input_pipeline_id, input_context.num_input_pipelines, batch


def clean(texts):
    """Returns the texts (n,) that are not only white space, as valid UTF-8 (m,)."""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    return tf.boolean_mask(texts, tf.strings.length(tf.strings.strip(texts)) > 0)


def attempt(function, argument, fallback):
    """Returns (function(argument), True), or (fallback, False) if an op fails, also in a graph."""
    dataset = tf.data.Dataset.from_tensors(argument).map(lambda *x: (function(*x), True))
    dataset = dataset.apply(tf.data.Dataset.ignore_errors)
    failed = tf.data.Dataset.from_tensors((fallback, tf.constant(False)))
    return dataset.concatenate(failed).take(1).get_single_element()


def _preparation(source, config, augmentation, image_size, seed):
    """Returns a function of (position, record, wanted) to an example; seed None draws nothing."""
    transform, draws = augment.parse(augmentation)
    if source.embeddings and augmentation:
        raise ConfigError(
            f"data.augment is {augmentation!r}, but precomputed embeddings have no pixels left; "
            "set it to '', or precompute several augmented views"
        )
    if source.embeddings:
        spec, key = tf.TensorSpec([source.manifest["width"]], tf.float32), "image_embedding"
    else:
        how = Square(image_size) if isinstance(image_size, int) else image_size
        spec, key = how.spec, "image"
    square = not isinstance(spec, dict)

    def decode(record, uniform):
        parsed = source.parse(record)
        texts = clean(parsed["texts"])
        text = tf.concat([texts, [""]], 0)[_choose(uniform[0], tf.size(texts))]
        if source.embeddings:
            image = parsed[key][_choose(uniform[1], source.manifest["views"])]
        else:
            image = decode_in_dataset(parsed["image"], config.max_pixels, exif=config.exif)
            if draws and not square:  # patches are cut of what is augmented
                image = how.augmented(image, lambda pixels: transform(pixels, uniform[2:]))
            else:
                image = how.fixed(image)
        return image, text

    def prepare(position, record, wanted):
        if seed is None:
            uniform = tf.zeros([2 + draws])
        else:
            key_of_host = tf.random.fold_in(tf.constant([seed[0], 0], tf.int64), seed[1])
            key_of_example = tf.random.fold_in(key_of_host, position)
            uniform = tf.random.stateless_uniform([2 + draws], key_of_example)
        fallback = (tf.nest.map_structure(stream.blank, spec), tf.constant(""))
        (image, text), decoded = tf.cond(
            record["present"] & wanted,
            lambda: attempt(lambda r: decode(r, uniform), record, fallback),
            lambda: (fallback, tf.constant(False)),
        )
        image = tf.nest.map_structure(lambda x, s: tf.ensure_shape(x, s.shape), image, spec)
        if draws and square:
            image = transform(image, uniform[2:])
        status = status_of(record["present"], decoded, tf.strings.length(text) > 0)
        place = {"shard": record["shard"], "index": record["index"]}
        return {key: image, "text": text, "status": status, **place}

    return prepare


def _choose(uniform, count):
    return tf.cast(uniform * tf.cast(count, tf.float32), tf.int32)


def _spares(max_bad_share, batch):
    """How many examples to keep for the next batch: twice the allowed bad ones, plus a few."""
    return min(batch, 4 + math.ceil(2 * max_bad_share * batch))


def _fill(dataset, spares):
    """Replaces bad examples by good ones of the previous batch's tail, else of the batch itself."""
    each = tf.nest.map_structure

    def contents(batch):
        return {k: v for k, v in batch.items() if k in ("image", "image_embedding", "text")}

    blank = functools.partial(stream.blank, start=[spares])
    state = each(blank, contents(dataset.element_spec)), tf.zeros([spares], tf.bool)

    def step(state, batch):
        tail, tail_good = state
        now = contents(batch)
        good = batch["status"] == GOOD
        size = batch["status"].shape[0]

        def replaced():
            bad = tf.where(~good)[:, 0]
            helpers = tf.concat([size + tf.where(tail_good)[:, 0], tf.where(good)[:, 0]], 0)
            helpers = tf.cond(tf.size(helpers) > 0, lambda: helpers, lambda: bad)
            taken = tf.gather(helpers, tf.range(tf.size(bad)) % tf.size(helpers))
            order = tf.tensor_scatter_nd_update(tf.range(size, dtype=tf.int64), bad[:, None], taken)
            return each(lambda x, old: tf.gather(tf.concat([x, old], 0), order), now, tail)

        filled = tf.cond(tf.reduce_all(good), lambda: each(tf.identity, now), replaced)
        filled = each(lambda x, old: tf.ensure_shape(x, old.shape), filled, now)
        state = each(lambda x: x[-spares:], now), good[-spares:]
        return state, {**batch, **filled}

    return dataset.scan(state, step)


def naming(source, counters, shard, index):
    """Returns a function from a place in a batch to the name of the example there."""

    def name(i):
        place = int(shard[i]), int(index[i])
        # Describing an example reads its shard again, so only the first few are described.
        about = source.describe(*place) if len(counters.named) < _DESCRIBED else ""
        return f"{source.name(*place)} ({about})" if about else source.name(*place)

    return name


def _counting(source, counters, max_bad_share):
    def count(status, shard, index):
        counters.add(status, naming(source, counters, shard, index), max_bad_share)
        return status

    def step(batch):
        names = ("status", "shard", "index")
        status = tf.numpy_function(count, [batch[n] for n in names], tf.int32)
        with tf.control_dependencies([status]):
            rest = {k: v for k, v in batch.items() if k not in names}
            return tf.nest.map_structure(tf.identity, rest)

    return step


def _finished(dataset, tokenizer):
    def tokenize(batch):
        rest = {k: v for k, v in batch.items() if k != "text"}
        return {**rest, "tokens": tokenizer(batch["text"])}

    dataset = dataset.map(tokenize, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    options = tf.data.Options()
    options.deterministic = True
    # Hosts have already divided the data among themselves.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
