"""Processes of test_feed, as in `python -m tests.workers.feed serve ADDRESS`.

serve ADDRESS             another machine, which knows TensorFlow only
feed ADDRESS here|there   computes there, with batches made here or there
replicas                  prints what four replicas here get
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def serve(address):
    import tensorflow as tf

    server = tf.distribute.Server(tf.train.ClusterSpec({"worker": [address]}), "worker", 0)
    print("ready", flush=True)
    server.join()


def feed(address, where):
    import numpy as np
    import tensorflow as tf
    import tensorflow_text as text

    from lit_tf.training.distribution.feed import FedFromHere

    remote = "/job:worker/task:0/device:CPU:0"
    tf.config.experimental_connect_to_host(address)
    vocabulary = ["[UNK]", "a", "b", "c"]

    def batches(context):
        tokenizer = text.FastWordpieceTokenizer(vocabulary, no_pretokenization=False)

        def make(k):
            counted = tf.numpy_function(np.square, [k], tf.int64)  # Python, of this process
            tokens = tokenizer.tokenize(["b c a"]).to_tensor(shape=[None, 2])
            return {"count": tf.reshape(counted, [1]), "tokens": tf.cast(tokens[0], tf.int32)}

        return tf.data.Dataset.range(8).map(make)

    if where == "here":
        iterator = iter(FedFromHere(2, batches))
    else:  # where tf.distribute would put it
        with tf.device(remote):
            iterator = iter(batches(None))

    @tf.function
    def loop(iterator, steps):
        total = tf.zeros([], tf.int64)
        for _ in tf.range(steps):
            batch = next(iterator)
            replicas = batch["count"].values if where == "here" else [batch["count"]]
            for count in replicas:
                with tf.device(remote):
                    total += count[0]
        return total

    print(loop(iterator, tf.constant(4)).numpy())


def make_dataset(context):
    """Batches of three, numbered, successive ones for the replicas of a host."""
    import tensorflow as tf

    local = context.num_replicas_in_sync // context.num_input_pipelines
    numbers = tf.data.Dataset.range(5 * local)
    return numbers.map(lambda n: {"x": tf.fill([3], n), "y": n})


def replicas():
    import tensorflow as tf

    from lit_tf.training.distribution.feed import FedFromHere

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(4)])

    @tf.function
    def step(batch):
        return strategy.run(lambda b: (b["x"] + 0, b["y"] + 0), args=(batch,))

    def results(dataset):
        return [
            [
                [part.numpy().tolist() for part in strategy.experimental_local_results(value)]
                for value in step(batch)
            ]
            for batch in dataset
        ]

    fed = FedFromHere(4, make_dataset)
    for dataset in (strategy.distribute_datasets_from_function(make_dataset), fed, fed):
        print(json.dumps(results(dataset)))


if __name__ == "__main__":
    {"serve": serve, "feed": feed, "replicas": replicas}[sys.argv[1]](*sys.argv[2:])
