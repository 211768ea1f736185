"""Reads and edits TFLite graphs: lookups, products and the constants between them."""

import functools

import numpy as np

from lit_tf.errors import extra


@functools.cache
def _utilities():
    with extra("lite"):
        from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils


def _schema():
    return _utilities().schema_fb


class LiteGraph:
    """A TFLite graph of one subgraph, from its file's bytes."""

    def __init__(self, data: bytes):
        self.model = _utilities().read_model_from_bytearray(bytearray(data))
        for buffer in self.model.buffers:
            if buffer.data is not None:  # what is not an array would be written byte by byte
                buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
        (self.main,) = self.model.subgraphs
        codes = self.model.operatorCodes
        self.codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in codes]

    def to_bytes(self) -> bytes:
        """Returns the file's bytes."""
        return bytes(_utilities().convert_object_to_bytearray(self.model))

    def operations(self, name: str) -> list:
        """Returns the operations of one kind, in order."""
        code = getattr(_schema().BuiltinOperator, name)
        return [op for op in self.main.operators if self.codes[op.opcodeIndex] == code]

    def tensor(self, index: int):
        """Returns the tensor of an operation's input or output."""
        return self.main.tensors[index]

    def is_type(self, index: int, name: str) -> bool:
        """Whether a tensor has a type, such as INT8."""
        return self.tensor(index).type == getattr(_schema().TensorType, name)

    def constant(self, index: int, dtype) -> np.ndarray | None:
        """Returns the values of a constant tensor, or None if it is computed."""
        tensor = self.tensor(index)
        data = self.model.buffers[tensor.buffer].data
        if data is None:
            return None
        return np.asarray(data, np.uint8).view(dtype).reshape(tensor.shape)

    def store(self, index: int, array: np.ndarray, scale: float | None = None) -> None:
        """Gives a tensor a constant value of its own, and one scale if that value is int8."""
        tensor, schema = self.tensor(index), _schema()
        self.compute(index)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor.buffer, tensor.shape = len(self.model.buffers) - 1, list(array.shape)
        tensor.type = getattr(schema.TensorType, array.dtype.name.upper())
        tensor.quantization = _one_scale(scale)

    def compute(self, index: int) -> None:
        """Takes a tensor's constant value away; it is dropped if no other tensor has it."""
        tensor = self.tensor(index)
        if sum(other.buffer == tensor.buffer for other in self.main.tensors) == 1:
            self.model.buffers[tensor.buffer].data = None
        tensor.buffer = 0  # the empty one

    def add(self, name: str, array: np.ndarray, scale: float | None = None) -> int:
        """Adds a constant tensor; returns its index."""
        index = self.like(0, name)
        self.tensor(index).shapeSignature = None
        self.store(index, array, scale)
        return index

    def like(self, index: int, name: str, dtype="FLOAT32", width=None, scale=None) -> int:
        """Adds a computed tensor of another one's shape, or another width; returns its index."""
        schema, other = _schema(), self.tensor(index)
        tensor = schema.TensorT()
        tensor.name, tensor.type = name.encode(), getattr(schema.TensorType, dtype)
        tensor.hasRank, tensor.quantization = True, _one_scale(scale)
        for field in ("shape", "shapeSignature"):
            sizes = getattr(other, field)
            sizes = None if sizes is None else [int(n) for n in sizes]
            setattr(tensor, field, sizes and [*sizes[:-1], width or sizes[-1]])
        self.main.tensors.append(tensor)
        return len(self.main.tensors) - 1

    def insert(self, place: int, name: str, inputs: list[int], output: int, options=None) -> None:
        """Inserts an operation at a place among the others."""
        schema = _schema()
        code, op = getattr(schema.BuiltinOperator, name), schema.OperatorT()
        if code not in self.codes:
            made = schema.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode = code, min(code, 127)
            self.model.operatorCodes.append(made)
            self.codes.append(code)
        op.opcodeIndex, op.inputs, op.outputs = self.codes.index(code), inputs, [output]
        camel = "".join(part.capitalize() for part in name.split("_")) + "Options"
        op.builtinOptionsType = getattr(schema.BuiltinOptions, camel)
        op.builtinOptions = options or getattr(schema, f"{camel}T")()
        self.main.operators.insert(place, op)


def _one_scale(scale):
    if scale is None:
        return None
    quantization = _schema().QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = [scale], [0]
    return quantization


def shrink_tables(graph: LiteGraph, most_half: float) -> None:
    """Stores token tables of up to `most_half` entries in float16, and larger ones in int8.

    No operation reads int8 rows with a scale for each in the same way everywhere: TFLite up to 2.17
    reads EMBEDDING_LOOKUP's with one scale. So the rows and their scales are read, then multiplied.
    """
    for op in graph.operations("GATHER"):
        place, (source, ids), output = graph.main.operators.index(op), op.inputs, op.outputs[0]
        table = graph.constant(source, np.float32) if graph.is_type(source, "FLOAT32") else None
        if table is None:
            continue
        if table.size <= most_half:
            half = graph.add("table/half", table.astype(np.float16))
            graph.compute(source)
            graph.insert(place, "DEQUANTIZE", [half], source)
            continue
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True) / 127, np.float32(1e-30))
        rows = np.round(table / scale).astype(np.int8)
        graph.store(source, rows, 1.0)
        small = graph.like(output, "lookup/rows", "INT8", scale=1.0)
        floats = graph.like(output, "lookup/floats")
        scales = graph.like(output, "lookup/scales", width=1)
        op.outputs = [small]
        table_scales = graph.add("table/scales", scale.astype(np.float32))
        graph.insert(place + 1, "DEQUANTIZE", [small], floats)
        graph.insert(place + 2, "GATHER", [table_scales, ids], scales, op.builtinOptions)
        graph.insert(place + 3, "MUL", [floats, scales], output)


def scale_after_products(graph: LiteGraph) -> None:
    """Moves the scales of int8 weights behind their products, which TFLite before 2.16 needs.

    There a product of floats with int8 weights is read with one scale. With the scale 1, then a
    multiplication by each channel's scale, and the bias, it says the same.
    """
    moved: dict[int, int] = {}  # of weights, which several products may share: their scales
    for op in graph.operations("FULLY_CONNECTED"):
        source, weights, output = op.inputs[0], op.inputs[1], op.outputs[0]
        if not (graph.is_type(source, "FLOAT32") and graph.is_type(weights, "INT8")):
            continue
        if weights not in moved:
            scales = np.asarray(graph.tensor(weights).quantization.scale, np.float32)
            moved[weights] = graph.add("weights/scales", scales)
            graph.tensor(weights).quantization = _one_scale(1.0)
        product, bias = graph.like(output, "product"), [int(i) for i in op.inputs[2:] if i >= 0]
        scaled = graph.like(output, "product/scaled") if bias else output
        place = graph.main.operators.index(op)
        graph.insert(place + 1, "MUL", [product, moved[weights]], scaled)
        if bias:
            graph.insert(place + 2, "ADD", [scaled, *bias], output)
        op.inputs, op.outputs = [source, weights, -1], [product]
