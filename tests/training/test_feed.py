"""Where pipelines run, and that every replica gets the same batches from wherever that is."""

import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
from lit_tf.training import feed
from lit_tf.training.loop import Trainer
from tensorflow.python.tpu import tpu_system_metadata as metadata_lib

from .feed_worker import make_dataset
from .test_runs import finish, free_port, launch
from .test_tpu_tracing import REPLICAS, EightCores

WORKER = pathlib.Path(__file__).parent / "feed_worker.py"


class TwoHosts(EightCores):
    """Eight cores of two machines, the first of them this one or neither."""

    def __init__(self, first_task):
        super().__init__()
        self._first_task = first_task

    def get_tpu_system_metadata(self):
        from tensorflow.python.client.session import _DeviceAttributes

        half = REPLICAS // 2
        names = [
            f"/job:worker/replica:0/task:{self._first_task + host}/device:TPU:{core}"
            for host in range(2)
            for core in range(half)
        ]
        devices = [_DeviceAttributes(name, "TPU", 0, i) for i, name in enumerate(names)]
        return metadata_lib.TPUSystemMetadata(REPLICAS, 2, half, None, devices)


def test_pipelines_of_a_tpu_run_on_its_hosts_only_if_that_is_here():
    with tf.Graph().as_default():
        here = tf.distribute.TPUStrategy(EightCores())
        assert not feed._is_remote(here)
        there = tf.distribute.TPUStrategy(TwoHosts(0))
        assert feed._is_remote(there)
        assert isinstance(feed.distribute(there, make_dataset), feed.FedFromHere)
    assert not feed._is_remote(tf.distribute.OneDeviceStrategy("CPU:0"))


def test_one_pipeline_feeds_replicas_what_their_own_would():
    out, _ = finish(launch([sys.executable, str(WORKER), "replicas"]))
    theirs, *mine = map(json.loads, out.splitlines()[-3:])
    assert len(theirs) == 5
    assert theirs[1] == [[[n] * 3 for n in (4, 5, 6, 7)], [4, 5, 6, 7]]  # each replica its own
    assert mine == [theirs, theirs]  # and every iteration begins anew


def test_orbits_loop_takes_batches_from_here_for_a_tpu_of_two_hosts():
    class Step:
        def __init__(self):
            self.optimizer = self
            self.iterations = tf.Variable(0, dtype=tf.int64)

    with tf.Graph().as_default():
        strategy = tf.distribute.TPUStrategy(TwoHosts(0))
        with strategy.scope():
            trainer = Trainer(strategy, Step(), None)
        seen = []
        trainer._replica_step = lambda batch: seen.append(batch["x"])
        dataset = feed.FedFromHere(REPLICAS, make_dataset)._dataset
        iterator = tf.compat.v1.data.make_one_shot_iterator(dataset)
        loop = trainer.create_train_loop_fn().get_concrete_function(
            feed._Iterator(iterator, REPLICAS), tf.compat.v1.placeholder(tf.int32, [])
        )
    assert seen and seen[0].shape == [3]
    nodes = [n for f in loop.graph.as_graph_def().library.function for n in f.node_def]
    fetched = [n for n in nodes if n.op == "IteratorGetNext"]
    assert len(fetched) == REPLICAS
    assert not [n.name for n in fetched if "/task:" in n.device]  # on no other host


@pytest.mark.parametrize("where", ["here", "there"])
def test_another_machine_needs_nothing_but_tensorflow(where):
    address = f"localhost:{free_port()}"
    server = subprocess.Popen(
        [sys.executable, str(WORKER), "serve", address], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout.readline() == "ready\n"
        process = launch([sys.executable, str(WORKER), "feed", f"grpc://{address}", where])
        if where == "here":
            out, _ = finish(process)
            assert int(out.split()[-1]) == sum(k * k for k in range(8))
        else:  # as tf.distribute would have it, and why it is not left to it
            _, err = process.communicate(timeout=120)
            assert process.returncode and ("pyfunc" in err or "Op type not registered" in err)
    finally:
        server.kill()
        server.wait()
