"""Reading an optimized TPU program: what runs, how often, and what the compiler thinks it costs.

libtpu's cost model chooses each operation's tiling by a number of cycles. The text of the compiled
program states it for nearly every operation that takes time (`estimated_cycles`), with the name of
the TensorFlow op that the operation came from.
"""

import collections
import dataclasses
import math
import re

_BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# Asynchronous copies between main memory and the chip's own, and how often the compiler counts the
# bytes of each.
_COPIES = {"copy-start": 4, "slice-start": 3}
_NOTHING_MOVES = {
    "parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "custom-call",
    "while", "call", "conditional",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of the schedule.

    Attributes:
        opcode: HLO opcode, such as "fusion" or "copy".
        shape: of the result, with its layout, as HLO text.
        cycles: estimated cycles of one run; 0 where the compiler states none.
        runs: how often it runs in one step.
        flops: of the matrix products and convolutions in one run.
        bytes: read and written in one run, in any memory, padding of tiles included; of an
            asynchronous copy, its size.
        source: TensorFlow op that it came from, with the Keras layers it was called in.
        computation: HLO computation that a fusion runs, or None.
    """

    opcode: str
    shape: str
    cycles: int
    runs: int
    flops: int
    bytes: int
    source: str
    computation: str | None


class Program:
    """A parsed program.

    Args:
        text: `HloModule.to_string()` of what the compiler made.
    """

    def __init__(self, text: str):
        self._computations, entry = _computations(text)
        self.operations: list[Operation] = []
        self._walk(entry, 1)

    @property
    def cycles(self) -> int:
        """Estimated cycles of one step, operations one after the other."""
        return sum(op.cycles * op.runs for op in self.operations)

    def count(self, opcode: str) -> int:
        """How many operations of an opcode the text schedules, loops counted once."""
        return sum(op.opcode == opcode for op in self.operations)

    def cycles_of(self, opcode: str) -> int:
        """Estimated cycles of all operations of one opcode."""
        return sum(op.cycles * op.runs for op in self.operations if op.opcode == opcode)

    def collectives(self) -> list[tuple[str, int, int]]:
        """Returns [(opcode, how many run in a step, their bytes together), ...]."""
        number, size = collections.Counter(), collections.Counter()
        for op in self.operations:
            # A collective may be hidden in a fusion, or in what an asynchronous operation starts.
            hidden = () if op.opcode.endswith(("-done", "-update")) else op.computation
            inner = self._computations.get(hidden, ()) if hidden else ()
            for opcode, shape in ((op.opcode, op.shape), *((i.opcode, i.shape) for i in inner)):
                opcode = opcode.removesuffix("-start")
                if opcode in _COLLECTIVES:
                    # If the chips share the update of large parameters, each sums only its part.
                    # Such a half of an all-reduce is an all-reduce within a fusion of this name.
                    if hidden and hidden.startswith("all-reduce-scatter"):
                        opcode = "reduce-scatter"
                    elif hidden and hidden.startswith("all-gather"):
                        opcode = "all-gather"
                    number[opcode] += op.runs
                    size[opcode] += _size(shape) * op.runs
        return [(opcode, number[opcode], size[opcode]) for opcode in number]

    def roofline(self, flops_per_second, bytes_per_second) -> tuple[float, float]:
        """Returns seconds of a step: (operations one after the other, copies between memories).

        An operation takes the longer of two times: that of its FLOPs, and that of its bytes, at
        these rates. Asynchronous copies are counted apart, because they run beside other
        operations. Each counts once, for the bytes that it moves.
        """
        operations = copies = 0.0
        for op in self.operations:
            if op.opcode in _COPIES:
                copies += op.runs * op.bytes / bytes_per_second
            else:
                seconds = max(op.flops / flops_per_second, op.bytes / bytes_per_second)
                operations += op.runs * seconds
        return operations, copies

    @property
    def counted_copies(self) -> int:
        """Bytes that the compiler's `bytes accessed` holds for asynchronous copies.

        It counts a copy four times: read and written, at its start and at its end. It counts a
        copied slice three times.
        """
        return sum(
            op.runs * op.bytes * _COPIES[op.opcode]
            for op in self.operations
            if op.opcode in _COPIES
        )

    def slowest(self, limit: int) -> list[tuple[str, int, int]]:
        """Returns [(layer and op, how many run, cycles together), ...], repeated blocks as one."""
        number, cycles = collections.Counter(), collections.Counter()
        for op in self.operations:
            if op.cycles:
                name = f"{_generic(op.source) or '(no name)'} [{op.opcode}]"
                number[name] += op.runs
                cycles[name] += op.cycles * op.runs
        return [(name, number[name], n) for name, n in cycles.most_common(limit)]

    def float32_products(self) -> list[tuple[str, int]]:
        """Returns [(layer and op, how many), ...] of matrix products that read float32 operands.

        The matrix units round such operands to bfloat16 anyway (TensorFlow's default precision on
        TPUs), but they are read and kept at twice the size.
        """
        found = collections.Counter()
        for op in self.operations:
            for inner in self._computations.get(op.computation, ()):
                if inner.opcode in ("convolution", "dot") and inner.operands_are("f32"):
                    found[_generic(inner.source or op.source)] += op.runs
        return found.most_common()

    def _walk(self, name, runs):
        for line in self._computations[name]:
            if line.opcode == "while":
                times = self._trip_count(line)
                self._walk(line.attribute("body"), runs * times)
            elif line.opcode == "call":
                self._walk(line.attribute("to_apply"), runs)
            elif line.opcode == "conditional":
                for branch in re.findall(r"%([\w.\-]+)", line.attribute("branches") or ""):
                    self._walk(branch, runs)
            self.operations.append(
                Operation(
                    opcode=line.opcode,
                    shape=line.shape,
                    cycles=line.cycles,
                    runs=runs,
                    flops=self._flops(line),
                    bytes=line.bytes,
                    source=line.source,
                    computation=line.attribute("calls"),
                )
            )

    def _flops(self, line):
        if line.opcode == "convolution":
            return line.convolution_flops()
        if line.opcode.endswith(("-done", "-update")):
            return 0
        return sum(map(self._flops, self._computations.get(line.attribute("calls"), ())))

    def _trip_count(self, line):
        """How often a loop runs: the bound that its counter is compared with, else 1."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line.rest)
        if known:
            return int(known[1])
        bounds = [
            int(constant[1])
            for other in self._computations.get(line.attribute("condition"), ())
            if (constant := re.match(r"constant\((\d+)\)", other.rest))
        ]
        return max(bounds, default=1)


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a computation, parsed as far as needed."""

    shape: str
    opcode: str
    rest: str
    shapes: dict

    @property
    def cycles(self):
        match = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(match[1]) if match else 0

    @property
    def source(self):
        match = re.search(r'op_name="([^"]*)"', self.rest)
        return match[1] if match else ""

    def attribute(self, name):
        if name == "branches":
            match = re.search(r"(?:branch_computations=\{|true_computation=)([^}]*)", self.rest)
        else:
            match = re.search(rf"\b{name}=%([\w.\-]+)", self.rest)
        return match[1] if match else None

    @property
    def operands(self):
        """Shapes of what it reads."""
        names = re.findall(r"%([\w.\-]+)", self.rest.split("(", 1)[-1].split(")", 1)[0])
        return [self.shapes.get(name, "") for name in names]

    def operands_are(self, dtype):
        operands = self.operands
        return bool(operands) and all(shape.startswith(dtype + "[") for shape in operands)

    @property
    def bytes(self):
        if self.opcode in _NOTHING_MOVES or self.opcode.endswith(("-done", "-update")):
            return 0
        if self.opcode == "copy-start":  # (destination, source, context)
            return _padded(self.shape)[0]
        if self.opcode == "slice-start":  # ((source), destination, context)
            return _padded(self.shape)[1]
        return sum(size for shape in (self.shape, *self.operands) for size in _padded(shape))

    def convolution_flops(self):
        """Two for every multiplication that the result needs."""
        out, kernel = (
            [int(d) for d in re.search(r"\[([\d,]*)\]", shape)[1].split(",") if d]
            for shape in (self.shape, self.operands[1])
        )
        labels = re.search(r"dim_labels=\w+_(\w+)->", self.rest)[1]
        products = math.prod(out) * kernel[labels.index("i")]
        window = dict(re.findall(r"(\w+)=(\S+)", self._window))
        sizes = [int(n) for n in window["size"].split("x")] if window else []
        pads = window["pad"].split("x") if "pad" in window else ["0_0"] * len(sizes)
        spread = window["lhs_dilate"].split("x") if "lhs_dilate" in window else ["1"] * len(sizes)
        for size, pad, dilation in zip(sizes, pads, spread, strict=True):
            # A batch of products is a convolution with a window as wide as the batch. Padding or
            # dilation lets the window meet one product at a time.
            if pad == "0_0" and dilation == "1":
                products *= size
        return 2 * products

    @property
    def _window(self):
        match = re.search(r"\bwindow=\{([^}]*)\}", self.rest)
        return match[1] if match else ""


def _computations(text):
    """Returns ({name: [_Line, ...]}, name of the entry)."""
    computations, entry, lines = {}, None, None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%([\w.\-]+) \(.*\{$", line)
        if header:
            lines, shapes = computations.setdefault(header[2], []), {}
            entry = header[2] if header[1] else entry
            continue
        body = re.match(r"  (?:ROOT )?%([\w.\-]+) = (.*)$", line)
        if body is None or lines is None:
            continue
        shape, rest = _split_shape(body[2])
        shapes[body[1]] = shape
        lines.append(_Line(shape, rest.split("(", 1)[0], rest, shapes))
    if entry is None:
        raise ValueError("no entry computation in the compiled program")
    return computations, entry


def _split_shape(text):
    """Splits 'shape opcode(...)...', where the shape of a tuple holds blanks and parentheses."""
    if not text.startswith("("):
        return text.split(" ", 1)
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[: i + 1], text[i + 2 :]
    return text, ""


def _size(shape):
    """Bytes of a shape or tuple of shapes, without padding."""
    return sum(
        _BYTES.get(dtype, 0) * math.prod(int(d) for d in dims.split(",") if d)
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shape)
    )


def _padded(shape):
    """Bytes of every array of a shape or tuple of shapes, padding of tiles included."""
    sizes = []
    for dtype, dims, layout in re.findall(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?", shape):
        dims = [int(d) for d in dims.split(",") if d]
        tile = re.search(r"T\(([\d,]+)\)", layout)
        minor_first = [int(axis) for axis in layout.split(":")[0].split(",") if axis]
        for axis, n in zip(minor_first, reversed(tile[1].split(",")) if tile else (), strict=False):
            dims[axis] = math.ceil(dims[axis] / int(n)) * int(n)
        sizes.append(_BYTES.get(dtype, 0) * math.prod(dims))
    return sizes


def _generic(source):
    """Removes from a source the numbers of its block and of its trace."""
    source = re.sub(r"block_\d+", "block", source.split(";")[-1])
    return re.sub(r"_\d+(?=/|$)", "", source)
