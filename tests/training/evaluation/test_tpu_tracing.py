"""The evaluator's steps traced under a real TPUStrategy, without a TPU."""

import pytest
import tensorflow as tf
from tensorflow.python.distribute import values

from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.model import LitModel
from lit_tf.training.evaluation.encoders import KerasEncoder

from ..test_tpu_tracing import REPLICAS, EightCores

LOCAL = 4


@pytest.mark.parametrize(
    ("kind", "shape", "dtype"), [("image", [32, 32, 3], tf.uint8), ("text", [16], tf.int32)]
)
def test_steps_have_static_shapes_and_no_strings_on_a_tpu(kind, shape, dtype):
    def per_replica(dtype, shape):
        return values.PerReplica(
            tuple(tf.compat.v1.placeholder(dtype, [LOCAL, *shape]) for _ in range(REPLICAS))
        )

    with tf.Graph().as_default() as graph:
        strategy = tf.distribute.TPUStrategy(EightCores())
        with strategy.scope():
            config = LitConfig(
                image=ViTConfig(8, 32, 32, 2, 2, 64), text=BertConfig(100, 64, 2, 1, 64, out_dim=32)
            )
            model = LitModel(config, seed=None)
        encoder = KerasEncoder(model, strategy, batch_size=REPLICAS * LOCAL)
        step = encoder._embedders[kind].step
        index, z = step(per_replica(tf.int32, []), per_replica(dtype, shape))
    # Every replica gathers all: the numbers and embeddings of the whole global batch.
    assert index.shape == [REPLICAS * LOCAL] and z.shape == [REPLICAS * LOCAL, 32]
    definition = graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    # TPUStrategy traces one replica for all: one gather of each.
    assert sum(node.op == "CrossReplicaSum" for node in nodes) == 2
    for node in nodes:
        types = [t for key in ("T", "dtype", "DstT") for t in [node.attr[key].type] if t]
        assert tf.string.as_datatype_enum not in types, node.name
        if node.op in ("CrossReplicaSum", "MatMul", "Einsum", "BatchMatMulV2", "Softmax"):
            for output in node.attr["_output_shapes"].list.shape:
                assert all(d.size >= 0 for d in output.dim), node.name
