"""Evaluates a tiny dataset on so many replicas: CHECKPOINT FOLDER REPLICAS [REPLICAS...].

A process of its own, because logical devices have to be made before TensorFlow starts; and one for
each number above 1, because TensorFlow keeps the size of a group of devices for a process's life.
With TF_CONFIG in the environment, REPLICAS is how many workers there are.
"""

import os
import pathlib
import sys

import numpy as np
import tensorflow as tf

import lit_tf


def evaluate(strategy, checkpoint, photos):
    """Returns all that the evaluators find, as arrays."""
    from lit_tf.training.evaluation import encoders, protocol
    from lit_tf.training.evaluation.captioned import open_captioned
    from lit_tf.training.evaluation.classification import open_classification

    with strategy.scope():
        model = lit_tf.load(checkpoint)
    encoder = encoders.KerasEncoder(model, strategy, batch_size=8)
    data = open_classification(str(photos))
    zero_shot = protocol.zero_shot(encoder, data, "clip_best")
    found = protocol.retrieval(encoder, open_captioned(str(photos / "pairs.csv")))
    embedded = encoder.embed_images(data.images)
    return {
        "replicas": strategy.num_replicas_in_sync,
        "zimg": embedded.z,
        "readable": embedded.readable,
        "ztxt": encoder.embed_texts(found.captions),
        "predictions": zero_shot.predictions,
        "accuracy": zero_shot.metrics["accuracy"],
        "image_ranks": found.image_ranks,
        "text_ranks": found.text_ranks,
    }


def main(checkpoint, folder, counts):
    photos = folder / "photos"
    if os.environ.get("TF_CONFIG"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        arrays = evaluate(strategy, checkpoint, photos)
        np.savez(folder / f"worker{strategy.cluster_resolver.task_id}.npz", **arrays)
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    for replicas in counts:
        devices = [f"CPU:{i}" for i in range(replicas)]
        if replicas == 1:
            strategy = tf.distribute.OneDeviceStrategy(devices[0])
        else:
            strategy = tf.distribute.MirroredStrategy(devices)
        np.savez(folder / f"{replicas}.npz", **evaluate(strategy, checkpoint, photos))


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), [int(n) for n in sys.argv[3:]])
