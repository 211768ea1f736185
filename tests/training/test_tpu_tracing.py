"""The whole train step traced under a real TPUStrategy, without a TPU."""

import pytest
import tensorflow as tf
from tensorflow.python.tpu import tpu_system_metadata as metadata_lib

from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.model import LitModel
from lit_tf.training.config import TrainConfig
from lit_tf.training.host_call import HostCall
from lit_tf.training.towers import build_step

REPLICAS = 8
LOCAL = 4


class EightCores(tf.distribute.cluster_resolver.TPUClusterResolver):
    """Says that there are eight TPU cores; nothing is connected to before something runs."""

    def __init__(self):
        self._tpu = "local"
        self.task_type, self.task_id = "worker", 0

    def get_tpu_system_metadata(self):
        from tensorflow.python.client.session import _DeviceAttributes

        return metadata_lib.TPUSystemMetadata(
            num_cores=REPLICAS,
            num_hosts=1,
            num_of_cores_per_host=REPLICAS,
            topology=None,
            devices=[_DeviceAttributes(f"/device:TPU:{i}", "TPU", 0, i) for i in range(REPLICAS)],
        )

    def master(self, *args, **kwargs):
        return ""

    def cluster_spec(self):
        return tf.train.ClusterSpec({})

    def num_accelerators(self, *args, **kwargs):
        return {"TPU": REPLICAS}


class Batches:
    """Stands in for a distributed iterator: each replica gets a placeholder's worth."""

    def __init__(self, strategy, spec):
        from tensorflow.python.distribute import values

        self._next = values.PerReplica(
            tuple(
                {k: tf.compat.v1.placeholder(s.dtype, s.shape) for k, s in spec.items()}
                for _ in range(strategy.num_replicas_in_sync)
            )
        )

    def __next__(self):
        return self._next


def trace(depth):
    graph = tf.Graph()
    with graph.as_default():
        strategy = tf.distribute.TPUStrategy(EightCores())
        with strategy.scope():
            model = LitModel(
                LitConfig(
                    image=ViTConfig(16, 224, 768, depth, 12, 3072),
                    text=BertConfig(30522, 768, depth, 12, 3072, out_dim=768),
                ),
                seed=None,
                dtype="mixed_bfloat16",
            )
            step = build_step(TrainConfig(), model)
        call = HostCall(strategy, step)
        batches = Batches(
            strategy,
            {
                "image": tf.TensorSpec([LOCAL, 224, 224, 3], tf.uint8),
                "tokens": tf.TensorSpec([LOCAL, 16], tf.int32),
            },
        )
        steps = tf.compat.v1.placeholder(tf.int32, [])
        loop = call.take_steps.get_concrete_function(batches, steps)
    return loop.graph, step.optimizer


def shapes(node):
    return node.attr["_output_shapes"].list.shape


@pytest.mark.parametrize("depth", [2, pytest.param(12, marks=pytest.mark.full)])
def test_the_train_loop_is_one_that_a_tpu_can_run(depth):
    """B/16 and BERT base (cut to two layers in the quick case) inside the loop of a host call."""
    graph, optimizer = trace(depth)
    assert type(optimizer.iterations).__name__.startswith("TPU")
    definition = graph.as_graph_def(add_shapes=True)
    # The loop's body is the function that holds the replicated computation.
    body = max(definition.library.function, key=lambda f: len(f.node_def)).node_def
    assert any(node.op == "TPUReplicateMetadata" for node in body)
    device = [node for node in body if "_tpu_replicate" in node.attr]
    assert len(device) > 1000

    strings = [
        node.name
        for node in device
        if any(value.type == tf.string.as_datatype_enum for value in node.attr.values())
    ]
    assert not strings
    doubles = [
        node.name
        for node in device
        if any(value.type == tf.float64.as_datatype_enum for value in node.attr.values())
    ]
    assert not doubles  # which a TPU can only emulate

    names = {node.name: node for node in device}
    dynamic = [
        node
        for node in device
        for shape in shapes(node)
        if shape.unknown_rank or any(d.size < 0 for d in shape.dim)
    ]
    for node in dynamic:
        # Axes to sum over, which XLA knows when it compiles; einsum's gradient shifts them by one.
        sources = [names.get(i.split(":")[0]) for i in node.input]
        shifted = any(s is not None and s.op == "BroadcastGradientArgs" for s in sources)
        assert node.op == "BroadcastGradientArgs" or shifted, node.name

    image = [node.name for node in device if "image_tower" in node.name]
    assert image and not [name for name in image if "gradient" in name]

    # Over the replicas: each tower's embeddings on the way forward; on the way back the text's, as
    # the image tower is locked; and every gradient and the loss once.
    sums = [node for node in device if node.op == "CrossReplicaSum"]
    of_gathers = [
        node for node in sums if [d.size for d in shapes(node)[0].dim] == [REPLICAS * LOCAL, 768]
    ]
    assert len(of_gathers) == 3
    assert len(sums) == 3 + len(optimizer.parameters) + 1
