"""Quantizes TFLite graphs with ai-edge-quantizer, which loses less than the converter does.

Measured on LiT-B16B_2's sizes, the converter's own dynamic range quantization gave a mean cosine of
0.9987 for the image tower and 0.9990 for the text tower. Two changes recover most of the loss. The
patch convolution stays in float16 (0.9996). The biases of the text tower are corrected for the mean
error of their weights (0.9996; Nagel et al., arXiv:1906.04721, section 4.2).
"""

import numpy as np

from lit_tf.errors import extra

from . import lite_graph
from .lite_graph import LiteGraph
from .names import DYNAMIC_INT8, FLOAT16, INT8, NEWEST, NONE, OLDEST

# A name scope whose matrix products stay float: similarities, which the temperature multiplies.
KEPT_FLOAT = "kept_float"

# A token table of up to this many entries stays float16. It would save little in int8, and each of
# its few rows matters more (LiT-digits has 31,000 entries, BERT base 23 million).
_SMALL_TABLE = 1_000_000


def _recipe(quantization, last_block, half_patches):
    with extra("lite"):
        from ai_edge_quantizer import qtyping, quantizer, recipe_manager

    op, algorithms = qtyping.TFLOperationName, quantizer.AlgorithmName
    recipe = recipe_manager.RecipeManager()
    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )

    def to_half(operation, scope=".*"):
        recipe.add_quantization_config(scope, operation, half, algorithms.FLOAT_CASTING)

    if half_patches:
        to_half(op.CONV_2D)
    if quantization == FLOAT16:
        to_half(op.FULLY_CONNECTED)
    else:
        if quantization == DYNAMIC_INT8:
            recipe.add_dynamic_config(".*", op.FULLY_CONNECTED, 8)
        else:
            recipe.add_static_config(".*", op.FULLY_CONNECTED, 8, 8)
        # The head and attention pooling's last layers work on one token: nothing later averages
        # out their rounding. A head cost a small text tower more than all other layers, the pooling
        # a small image tower in int8 a cosine of 0.987 in place of 0.999, the last block of a text
        # transformer 0.992.
        to_half(op.FULLY_CONNECTED, r".*/head(_\d+)?/MatMul.*")
        # NaFlex's patch embedding and positions are products.
        to_half(op.FULLY_CONNECTED, r".*image_tower(_\d+)?/(embedding(_\d+)?|positions)/.*")
        to_half(op.FULLY_CONNECTED, r".*/pooling(_\d+)?/(probe|out|mlp)(_\d+)?/.*")
        if quantization == INT8 and last_block:
            block = rf".*text_tower(_\d+)?/block_{last_block}(_\d+)?"
            to_half(op.FULLY_CONNECTED, rf"{block}/(attention(_\d+)?/(query|out)|mlp)(_\d+)?/.*")
        kept = {"algorithm_key": algorithms.NO_QUANTIZE}
        recipe.add_quantization_config(f".*{KEPT_FLOAT}.*", op.FULLY_CONNECTED, **kept)
    return recipe.get_quantization_recipe()


def quantized(
    graph, quantization, calibration=None, means=None, last_block=0, batch=1, min_runtime=NEWEST
) -> bytes:
    """Returns a float TFLite graph with its weights, or weights and activations, quantized.

    `int8` needs `calibration`, as `verify.run_in_process` takes inputs. `last_block` of a text
    transformer stays float16 there. `means`, from `input_means`, correct biases in `dynamic_int8`.
    """
    if quantization == NONE:
        return bytes(graph)
    with extra("lite"):
        from ai_edge_quantizer import quantizer
    old = min_runtime == OLDEST
    worker = quantizer.Quantizer(bytearray(graph), _recipe(quantization, last_block, not old))
    result = None
    if worker.need_calibration:
        ((signature, given),) = calibration.items()
        starts = range(0, len(next(iter(given.values()))) // batch * batch, batch)
        batches = {signature: [{k: v[i : i + batch] for k, v in given.items()} for i in starts]}
        result = worker.calibrate(batches, num_threads=2)
    options = {"enable_progress_bar": False, "enable_progress_report": False}
    out = LiteGraph(worker.quantize(result, **options).quantized_model)
    if means is not None and quantization == DYNAMIC_INT8:
        _correct_biases(LiteGraph(graph), out, means)
    lite_graph.shrink_tables(out, np.inf if quantization == FLOAT16 else _SMALL_TABLE)
    if old:
        lite_graph.scale_after_products(out)
    return out.to_bytes()


def input_means(graph: bytes, calibration, batch_size: int = 8) -> list[np.ndarray]:
    """Returns the mean input (fan_in,) of every FULLY_CONNECTED of a float graph, in order."""
    with extra("lite"):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

    inputs = [op.inputs[0] for op in LiteGraph(graph).operations("FULLY_CONNECTED")]
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
    totals: list = [0.0] * len(inputs)
    for start in range(0, len(array), batch_size):
        interpreter.set_tensor(entry, array[start : start + batch_size])
        interpreter.invoke()
        for i, index in enumerate(inputs):
            value = interpreter.get_tensor(index)
            totals[i] += value.reshape(-1, value.shape[-1]).mean(0, dtype=np.float64)
    return [t / (len(array) // batch_size) for t in totals]


def _correct_biases(before, after, means):
    """Subtracts from every bias what the rounding of its weights adds on average."""
    products = (graph.operations("FULLY_CONNECTED") for graph in (before, after))
    for old, new, mean in zip(*products, means, strict=True):
        weights = new.inputs[1]
        if not after.is_type(weights, "INT8") or len(new.inputs) < 3 or new.inputs[2] < 0:
            continue
        scale = np.asarray(after.tensor(weights).quantization.scale, np.float64)[:, None]
        exact = before.constant(old.inputs[1], np.float32)
        error = after.constant(weights, np.int8) * scale - exact  # (fan_out, fan_in)
        value = after.constant(new.inputs[2], np.float32) - error @ mean
        after.store(new.inputs[2], value.astype(np.float32))
