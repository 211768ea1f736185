"""Reading an optimized TPU program: what runs, how often, and what the compiler thinks it costs.

The text of the program that libtpu compiled carries, at nearly every operation that takes time, the
number of cycles that its cost model chose the operation's tiling by (`estimated_cycles`), and the
name of the TensorFlow op that it came from.
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


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of the schedule.

    Attributes:
        opcode: HLO opcode, such as "fusion" or "copy".
        shape: Of the result, with its layout, as HLO text.
        cycles: Estimated cycles of one run; 0 where the compiler states none.
        runs: How often it runs in one step.
        source: TensorFlow op that it came from, with the Keras layers it was called in.
        computation: HLO computation that a fusion runs, or None.
    """

    opcode: str
    shape: str
    cycles: int
    runs: int
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
                    number[opcode] += op.runs
                    size[opcode] += _size(shape) * op.runs
        return [(opcode, number[opcode], size[opcode]) for opcode in number]

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
                    line.opcode, line.shape, line.cycles, runs, line.source, line.attribute("calls")
                )
            )

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
    """A line of a computation, taken apart as far as it is needed."""

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

    def operands_are(self, dtype):
        operands = re.findall(r"%([\w.\-]+)", self.rest.split(")", 1)[0])
        return bool(operands) and all(
            self.shapes.get(operand, "").startswith(dtype + "[") for operand in operands
        )


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


def _generic(source):
    """A source without what tells one block from the next and one trace from the next."""
    source = re.sub(r"block_\d+", "block", source.split(";")[-1])
    return re.sub(r"_\d+(?=/|$)", "", source)
