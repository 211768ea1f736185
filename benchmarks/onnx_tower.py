"""The image tower as an ONNX graph in float32, as other photo tools run theirs.

Written by hand, operation by operation, so that no converter decides how good it is. ONNX Runtime
fuses what it can.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class _Graph:
    """Nodes and weights, each with a name of its own."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def __call__(self, operation, *inputs, outputs=1, **attributes):
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        out = [f"{operation}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operation, names, out, **attributes))
        return out[0] if outputs == 1 else out

    def constant(self, value):
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def write_vit(model, path):
    """Writes a ViT with a class token and no head: float (N, 3, R, R) in [-1, 1] to (N, D)."""
    config, graph = model.config.image, _Graph()
    w = {
        name: variable.numpy() for name, variable in model.image_tower.canonical_variables().items()
    }
    w = {name.removeprefix("img/"): value for name, value in w.items()}
    width, heads, patch = config.width, config.num_heads, config.patch_size
    depth = width // heads

    def norm(x, name):
        scale, bias = w[f"{name}/scale"], w[f"{name}/bias"]
        return graph("LayerNormalization", x, scale, bias, epsilon=1e-6)

    def dense(x, name, shape):
        kernel = w[f"{name}/kernel"].reshape(shape)
        return graph("Add", graph("MatMul", x, kernel), w[f"{name}/bias"].reshape(-1))

    def split(x, order):
        x = graph("Reshape", x, np.array([0, 0, heads, depth], np.int64))
        return graph("Transpose", x, perm=order)

    kernel = w["embedding/kernel"].transpose(3, 2, 0, 1)  # (width, 3, patch, patch)
    x = graph("Conv", "pixels", kernel, w["embedding/bias"], strides=[patch, patch])
    x = graph("Reshape", x, np.array([0, width, -1], np.int64))
    x = graph("Transpose", x, perm=[0, 2, 1])  # (N, patches, width)
    count = graph("Slice", graph("Shape", x), *(np.array([i], np.int64) for i in (0, 1)))
    shape = graph("Concat", count, np.array([1, width], np.int64), axis=0)
    x = graph("Add", x, w["pos_embedding"])
    cls = (w["cls"] + w["cls_pos_embedding"]).reshape(1, 1, width)
    x = graph("Concat", graph("Expand", cls, shape), x, axis=1)
    for i in range(config.depth):
        block = f"Transformer/encoderblock_{i}"
        y = norm(x, f"{block}/LayerNorm_0")
        attention = f"{block}/MultiHeadDotProductAttention_0"
        q, k, v = (dense(y, f"{attention}/{n}", (width, width)) for n in ("query", "key", "value"))
        q, k, v = split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1]), split(v, [0, 2, 1, 3])
        scores = graph("Mul", graph("MatMul", q, k), np.float32(depth**-0.5))
        y = graph("MatMul", graph("Softmax", scores, axis=-1), v)
        y = graph("Transpose", y, perm=[0, 2, 1, 3])
        y = graph("Reshape", y, np.array([0, 0, width], np.int64))
        x = graph("Add", x, dense(y, f"{attention}/out", (width, width)))
        y = dense(norm(x, f"{block}/LayerNorm_1"), f"{block}/MlpBlock_0/Dense_0", (width, -1))
        y = graph("Gelu", y, approximate="tanh")
        x = graph("Add", x, dense(y, f"{block}/MlpBlock_0/Dense_1", (-1, width)))
    x = norm(x, "Transformer/encoder_norm")
    x = graph("Gather", x, np.array(0, np.int64), axis=1)
    size = config.image_size
    made = helper.make_graph(
        graph.nodes,
        "vit",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", width])],
        graph.weights,
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]), path)
