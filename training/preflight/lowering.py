"""From a TensorFlow function to StableHLO, on a CPU, without running anything.

This lowers the trainer's own `ReplicaStep`. Only the collectives differ: those of tf.distribute
need a TPU system to trace against, and become the same HLO as `XlaAllReduce` and `XlaReplicaId`.
"""

import re

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from lit_tf.contrastive.collectives import Collectives
from lit_tf.errors import TrainingError


class XlaCollectives(Collectives):
    """Collectives among a given number of replicas, as XLA ops instead of a strategy's."""

    def __init__(self, replicas: int):
        self._replicas = replicas

    @property
    def num_replicas(self) -> int:
        """How many replicas run the step in sync."""
        return self._replicas

    def replica_id(self) -> tf.Tensor:
        """Returns the number of the replica that runs the program, an int32 scalar."""
        return tf.cast(gen_xla_ops.xla_replica_id(), tf.int32)

    def all_reduce(self, values):
        """Sums tensors over the replicas."""
        if self._replicas == 1:
            return list(values)
        group = tf.constant([list(range(self._replicas))])
        return [
            gen_xla_ops.xla_all_reduce(
                input=value, group_assignment=group, reduce_op="Add", mode="CrossReplica"
            )
            for value in values
        ]

    def assign(self, variables, values):
        """Assigns to the variables, of which there is one copy while lowering."""
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def lower(function, arguments) -> str:
    """Returns StableHLO of a function of nested `tf.TensorSpec`s, with TensorFlow's op names."""

    def program(*flat):  # TensorFlow returns IR for flat arguments only
        return function(*tf.nest.pack_sequence_as(arguments, flat))

    compiled = tf.function(program, jit_compile=True, autograph=False)
    try:
        specs = tf.nest.flatten(arguments)
        text = compiled.experimental_get_compiler_ir(*specs)(stage="stablehlo")
    except (tf.errors.OpError, ValueError) as error:
        raise TrainingError(_unsupported(str(error))) from error
    return _as_for_tpu(text)


def _as_for_tpu(text: str) -> str:
    """Undoes the two things that differ between lowering for a CPU and for a TPU."""
    # A copy that does nothing, in a dialect that the TPU compiler does not read.
    text = re.sub(
        r"mhlo\.copy (%[\w#]+) : (tensor<[^>]*>)", r"stablehlo.reshape \1 : (\2) -> \2", text
    )
    # Random bits: for CPUs and GPUs, tf2xla asks for Philox; elsewhere it leaves the algorithm to
    # the hardware (tf2xla/kernels/rng_converter_utils.cc), whose state is two words long.
    return re.sub(
        r"^( *)%(\w+), (%\w+) = stablehlo\.rng_bit_generator %(\w+), algorithm = +PHILOX : "
        r"\(tensor<3xui64>\) -> \(tensor<3xui64>, (tensor<[^>]*>)\)( loc.*)?$",
        r"\1%seed_\4 = stablehlo.slice %\4 [0:2] : (tensor<3xui64>) -> tensor<2xui64>\n"
        r"\1%rest_\4 = stablehlo.slice %\4 [2:3] : (tensor<3xui64>) -> tensor<1xui64>\n"
        r"\1%next_\4, \3 = stablehlo.rng_bit_generator %seed_\4, algorithm = DEFAULT : "
        r"(tensor<2xui64>) -> (tensor<2xui64>, \5)\6\n"
        r"\1%\2 = stablehlo.concatenate %next_\4, %rest_\4, dim = 0 : "
        r"(tensor<2xui64>, tensor<1xui64>) -> tensor<3xui64>",
        text,
        flags=re.M,
    )


def _unsupported(message: str) -> str:
    ops = re.findall(r"(\w+) \(No registered '\w+' OpKernel.*?\{\{node ([^}]+)\}\}", message, re.S)
    if not ops:
        return f"XLA cannot compile this: {' '.join(message.split())[:500]}"
    found = []
    for op, node in dict.fromkeys(ops):
        layer = node.rpartition("/")[0]
        found.append(f"{op} at {node}" + (f" (layer {layer})" if layer else ""))
    return f"no TPU kernel for {'; '.join(found)}. Do it on the host, in the input pipeline"
