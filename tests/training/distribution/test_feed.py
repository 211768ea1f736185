"""Where pipelines run, and that every replica gets the same batches from wherever that is."""

import json

import pytest
import tensorflow as tf
from tensorflow.python.tpu import tpu_system_metadata as metadata_lib

from lit_tf.training.distribution import feed
from lit_tf.training.host_call import HostCall

from ...processes import finish, free_ports, launch, worker
from ...workers.feed import make_dataset
from ..test_tpu_tracing import REPLICAS, EightCores


class Hosts(EightCores):
    """Eight cores of some machines, named as TensorFlow does."""

    def __init__(self, *hosts):
        super().__init__()
        self._hosts = hosts

    def get_tpu_system_metadata(self):
        from tensorflow.python.client.session import _DeviceAttributes

        each = REPLICAS // len(self._hosts)
        names = [
            f"/{host}/device:TPU:{core}".replace("/task", "/replica:0/task")
            for host in self._hosts
            for core in range(each)
        ]
        devices = [_DeviceAttributes(name, "TPU", 0, i) for i, name in enumerate(names)]
        return metadata_lib.TPUSystemMetadata(REPLICAS, len(self._hosts), each, None, devices)


TWO = ("job:worker/task:0", "job:worker/task:1")


def test_pipelines_of_a_tpu_run_on_its_hosts_only_if_that_is_here():
    def strategy(*hosts):
        with tf.Graph().as_default():
            return tf.distribute.TPUStrategy(Hosts(*hosts))

    assert not feed.is_remote(strategy("job:localhost/task:0"))  # as eager tensors are called
    for elsewhere in (TWO, TWO[:1], ("job:localhost/task:0", "job:worker/task:1")):
        assert feed.is_remote(strategy(*elsewhere)), elsewhere
    fed = feed.distribute(strategy(*TWO), make_dataset)
    assert isinstance(fed, feed.FedFromHere)
    assert not feed.is_remote(tf.distribute.OneDeviceStrategy("CPU:0"))


def test_successive_batches_go_to_the_replicas_and_every_iteration_begins_anew():
    fed = feed.FedFromHere(2, make_dataset)
    for _ in range(2):
        found = [[int(y) for y in batch["y"].values] for batch in fed]
        assert found == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.full
def test_one_pipeline_feeds_replicas_what_their_own_would():
    out, _ = finish(launch(worker("feed", "replicas")))
    theirs, *mine = map(json.loads, out.splitlines()[-3:])
    assert len(theirs) == 5
    assert theirs[1] == [[[n] * 3 for n in (4, 5, 6, 7)], [4, 5, 6, 7]]  # each replica its own
    assert mine == [theirs, theirs]  # and every iteration begins anew


def test_the_loop_takes_batches_from_here_for_a_tpu_of_two_hosts():
    class Step:
        def __init__(self):
            self.optimizer = self
            self.iterations = tf.Variable(0, dtype=tf.int64)

    with tf.Graph().as_default():
        strategy = tf.distribute.TPUStrategy(Hosts(*TWO))
        seen = []

        class Call(HostCall):
            def replica_step(self, batch):
                seen.append(batch["x"])

        with strategy.scope():
            call = Call(strategy, Step())
        dataset = feed.FedFromHere(REPLICAS, make_dataset).dataset
        iterator = tf.compat.v1.data.make_one_shot_iterator(dataset)
        loop = call.take_steps.get_concrete_function(
            feed.BatchIterator(iterator, REPLICAS), tf.compat.v1.placeholder(tf.int32, [])
        )
    assert seen and seen[0].shape == [3]
    nodes = [n for f in loop.graph.as_graph_def().library.function for n in f.node_def]
    fetched = [n for n in nodes if n.op == "IteratorGetNext"]
    assert len(fetched) == REPLICAS
    assert not [n.name for n in fetched if "/task:" in n.device]  # on no other host


@pytest.mark.full
@pytest.mark.parametrize("where", ["here", "there"])
def test_another_machine_needs_nothing_but_tensorflow(where):
    address = f"localhost:{free_ports(1)[0]}"
    server = launch(worker("feed", "serve", address))
    try:
        assert server.stdout.readline() == "ready\n"
        process = launch(worker("feed", "feed", f"grpc://{address}", where))
        if where == "here":
            out, _ = finish(process)
            assert int(out.split()[-1]) == sum(k * k for k in range(8))
        else:  # as tf.distribute would have it, and why it is not left to it
            _, err = process.communicate(timeout=600)
            assert process.returncode and ("pyfunc" in err or "Op type not registered" in err)
    finally:
        server.kill()
        server.wait()
