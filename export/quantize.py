"""Quantizes TFLite graphs with ai-edge-quantizer, which loses less than the converter does.

Measured on LiT-B16B_2's sizes, the converter's own dynamic range quantization gave a mean cosine of
0.9987 for the image tower and 0.9990 for the text tower. Two changes recover most of the loss. The
patch convolution stays in float16 (0.9996). The biases of the text tower are corrected for the mean
error of their weights (0.9996; Nagel et al., arXiv:1906.04721, section 4.2).
"""

import functools

import numpy as np

from lit_tf.errors import extra

from .names import DYNAMIC_INT8, FLOAT16, INT8, NONE

# A name scope whose matrix products stay float: similarities, which the temperature multiplies.
KEPT_FLOAT = "kept_float"

_HEADS = (
    "the last linear head, and the layers of attention pooling that work on its one token (float16 "
    "weights): their rounding goes straight into the embedding. The head cost a small text tower "
    "more than all other layers; the pooling cost a small image tower in int8 a cosine of 0.987 in "
    "place of 0.999"
)
_LAST_BLOCK = (
    "the last block of a text transformer of several (float16 weights): it works on one token too, "
    "and cost a small tower a cosine of 0.992 in place of 0.999"
)
# A token table of up to this many entries stays float16. It would save little in int8, and each of
# its few rows matters more (LiT-digits has 31,000 entries, BERT base 23 million).
_SMALL_TABLE = 1_000_000
_TABLE = f"a token table of up to {_SMALL_TABLE:,} entries (float16)"
_WEIGHTLESS = (
    "LayerNorm, softmax, GELU, residual sums and the two products of attention: they have no "
    "weights, so they would save no space, and in int8 they cost more accuracy than all the rest"
)
_PATCHES = "the patch convolution (float16 weights): it alone would cost more than all other layers"
STAYS_FLOAT = {
    NONE: ["everything"],
    FLOAT16: ["all computation; only weights are float16"],
    DYNAMIC_INT8: [_PATCHES, _HEADS, _TABLE, _WEIGHTLESS],
    INT8: [
        _PATCHES,
        _HEADS,
        _LAST_BLOCK,
        _TABLE,
        _WEIGHTLESS,
        "text_encoder_strings.tflite: activations (as in dynamic_int8), for no calibrator runs the "
        "tokenizer's operations",
    ],
}


def _recipe(quantization, table_size, last_block):
    with extra("lite"):
        from ai_edge_quantizer import qtyping, quantizer, recipe_manager

    op, algorithms = qtyping.TFLOperationName, quantizer.AlgorithmName
    recipe = recipe_manager.RecipeManager()
    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=qtyping.TensorDataType.FLOAT
        ),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )

    def to_half(operation, scope=".*"):
        recipe.add_quantization_config(scope, operation, half, algorithms.FLOAT_CASTING)

    to_half(op.CONV_2D)
    if quantization == FLOAT16 or table_size <= _SMALL_TABLE:
        to_half(op.EMBEDDING_LOOKUP)
    else:
        recipe.add_dynamic_config(".*", op.EMBEDDING_LOOKUP, 8)
    if quantization == FLOAT16:
        to_half(op.FULLY_CONNECTED)
    else:
        if quantization == DYNAMIC_INT8:
            recipe.add_dynamic_config(".*", op.FULLY_CONNECTED, 8)
        else:
            recipe.add_static_config(".*", op.FULLY_CONNECTED, 8, 8)
        to_half(op.FULLY_CONNECTED, r".*/head(_\d+)?/MatMul.*")
        # The last layers of attention pooling work on one token. As in a head, nothing after them
        # averages out their rounding.
        to_half(op.FULLY_CONNECTED, r".*/pooling(_\d+)?/(attention(_\d+)?/out|mlp)(_\d+)?/.*")
        if quantization == INT8 and last_block:
            block = rf".*text_tower(_\d+)?/block_{last_block}(_\d+)?"
            to_half(op.FULLY_CONNECTED, rf"{block}/(attention(_\d+)?/(query|out)|mlp)(_\d+)?/.*")
        recipe.add_quantization_config(
            f".*{KEPT_FLOAT}.*", op.FULLY_CONNECTED, algorithm_key=algorithms.NO_QUANTIZE
        )
    return recipe.get_quantization_recipe()


def quantized(
    graph: bytes, quantization: str, calibration=None, means=None, last_block: int = 0
) -> bytes:
    """Returns a graph with its weights, or weights and activations, quantized.

    Args:
        graph: a float TFLite graph.
        quantization: `none`, `float16`, `dynamic_int8` or `int8`.
        calibration: {signature: {argument: array (N, ...)}}, which `int8` needs.
        means: from `input_means`, to correct biases in `dynamic_int8`; None to leave them.
        last_block: number of the block of a text transformer that stays float16 in `int8`; 0 for
            none.

    Raises:
        MissingPackageError: ai-edge-quantizer is not installed.
    """
    if quantization == NONE:
        return bytes(graph)
    with extra("lite"):
        from ai_edge_quantizer import quantizer
    recipe = _recipe(quantization, _table_size(graph), last_block)
    worker = quantizer.Quantizer(bytearray(graph), recipe)
    result = None
    if worker.need_calibration:
        batches = {}
        for signature, arguments in calibration.items():
            count = len(next(iter(arguments.values())))
            batches[signature] = [
                {k: v[i : i + 1] for k, v in arguments.items()} for i in range(count)
            ]
        result = worker.calibrate(batches, num_threads=2)
    out = bytes(
        worker.quantize(
            result, enable_progress_bar=False, enable_progress_report=False
        ).quantized_model
    )
    return out if means is None or quantization != DYNAMIC_INT8 else _corrected(graph, out, means)


def _operations(model, name):
    """Returns the operations of one kind of a flatbuffer's first subgraph, in order."""
    with extra("lite"):
        from ai_edge_litert import schema_py_generated as schema

    code = getattr(schema.BuiltinOperator, name)
    wanted = [max(c.builtinCode, c.deprecatedBuiltinCode) == code for c in model.operatorCodes]
    return [op for op in model.subgraphs[0].operators if wanted[op.opcodeIndex]]


def _products(model):
    return _operations(model, "FULLY_CONNECTED")


def _table_size(graph):
    """Returns the number of entries of the largest lookup table, 0 if there is none."""
    model = _flatbuffers().read_model_from_bytearray(bytearray(graph))
    lookups = _operations(model, "EMBEDDING_LOOKUP")
    shapes = [model.subgraphs[0].tensors[op.inputs[1]].shape for op in lookups]
    return max((int(np.prod(shape)) for shape in shapes), default=0)


def _array(model, index, dtype):
    tensor = model.subgraphs[0].tensors[index]
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    return data.view(dtype).reshape(tensor.shape)


@functools.cache
def _flatbuffers():
    with extra("lite"):
        from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils


def input_means(graph: bytes, calibration, batch_size: int = 8) -> list[np.ndarray]:
    """Returns the mean input (fan_in,) of every FULLY_CONNECTED of a float graph, in order.

    Args:
        graph: a float TFLite graph.
        calibration: {signature: {argument: array (N, ...)}}, one of each.
        batch_size: how many inputs to run at once.
    """
    with extra("lite"):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = _flatbuffers().read_model_from_bytearray(bytearray(graph))
    inputs = [op.inputs[0] for op in _products(model)]
    interpreter = Interpreter(
        model_content=bytes(graph),
        num_threads=2,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    ((_, arguments),) = calibration.items()
    (array,) = arguments.values()
    array = array[: len(array) // batch_size * batch_size]
    entry = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(entry, [batch_size, *array.shape[1:]])
    interpreter.allocate_tensors()
    totals = [0.0] * len(inputs)
    for start in range(0, len(array), batch_size):
        interpreter.set_tensor(entry, array[start : start + batch_size])
        interpreter.invoke()
        for i, index in enumerate(inputs):
            value = interpreter.get_tensor(index)
            totals[i] += value.reshape(-1, value.shape[-1]).mean(0, dtype=np.float64)
    return [t / (len(array) // batch_size) for t in totals]


def _corrected(graph, quantized_graph, means):
    """Subtracts from every bias what the rounding of its weights adds on average."""
    with extra("lite"):
        from ai_edge_litert import schema_py_generated as schema

    before = _flatbuffers().read_model_from_bytearray(bytearray(graph))
    after = _flatbuffers().read_model_from_bytearray(bytearray(quantized_graph))
    tensors = after.subgraphs[0].tensors
    for old, new, mean in zip(_products(before), _products(after), means, strict=True):
        weights = tensors[new.inputs[1]]
        if weights.type != schema.TensorType.INT8 or len(new.inputs) < 3 or new.inputs[2] < 0:
            continue
        scale = np.asarray(weights.quantization.scale, np.float64)[:, None]
        error = _array(after, new.inputs[1], np.int8) * scale - _array(
            before, old.inputs[1], np.float32
        )  # (fan_out, fan_in)
        bias = tensors[new.inputs[2]]
        value = _array(after, new.inputs[2], np.float32) - error @ mean
        buffer = schema.BufferT()  # a new one, because equal biases may share one
        buffer.data = np.frombuffer(value.astype(np.float32).tobytes(), np.uint8)
        after.buffers.append(buffer)
        bias.buffer = len(after.buffers) - 1
    return bytes(_flatbuffers().convert_object_to_bytearray(after))
