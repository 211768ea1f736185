"""The TPU compiler on a machine without a TPU: StableHLO in, memory and cost out."""

import dataclasses
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from lit_tf.errors import TrainingError

from .chips import Topology
from .hlo import Program

# What this was shown to work with; libtpu's ahead-of-time interface is not a stable one.
KNOWN_TO_WORK = {"jax": "0.10.2", "jaxlib": "0.10.2", "libtpu": "0.0.52"}
_SCRIPT = pathlib.Path(__file__).with_name("libtpu_compile.py")


class DoesNotFit(TrainingError):
    """The program needs more memory than the chip has.

    Attributes:
        needed: bytes, as the compiler counts them.
        available: bytes that the compiler may use.
    """

    def __init__(self, needed: int, available: int):
        self.needed, self.available = needed, available
        super().__init__(
            f"needs {needed / 2**30:.2f} GiB of a chip's memory, of which the compiler may use "
            f"{available / 2**30:.2f} GiB"
        )

    def __reduce__(self):
        return DoesNotFit, (self.needed, self.available)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of a program, for one chip.

    Attributes:
        arguments: bytes of parameters, optimizer state and inputs, as laid out on the chip.
        outputs: bytes of results that do not replace an argument.
        temporaries: bytes of activations and scratch at their peak.
        code: bytes of the program itself.
        flops: floating-point operations that the program does, loops counted once.
        roofline_seconds: operations one after the other, each at the chip's peak arithmetic or the
            counted bandwidth, whichever takes longer, and the copies between the chip's memories.
        copies_seconds: those copies' part of it. They run while other operations do.
        bytes_accessed: what the compiler counts, copies several times (`Program.counted_copies`).
        program: the optimized program.
        compile_seconds: how long the compiler took.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int
    flops: float
    roofline_seconds: float
    copies_seconds: float
    bytes_accessed: float
    program: Program
    compile_seconds: float

    @property
    def memory(self) -> int:
        """Bytes that the program takes of a chip's memory."""
        return self.arguments + self.outputs + self.temporaries + self.code


def check_installed() -> None:
    """Refuses to start without the compiler.

    Raises:
        TrainingError: a package is missing; says how to install it.
    """
    try:
        for package in KNOWN_TO_WORK:
            importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise TrainingError(
            f"{error.name} is not installed; the TPU compiler comes with "
            "pip install 'lit_tf[tpu-preflight]'"
        ) from error


def compile_stablehlo(stablehlo: str, topology: Topology, *, replicas: int) -> Compiled:
    """Compiles a program for a number of replicas on a TPU slice.

    Args:
        stablehlo: the program's text.
        topology: where it is to run.
        replicas: on how many of the slice's chips, one replica each.

    Raises:
        DoesNotFit: it needs more memory than there is.
        TrainingError: the compiler refuses it; names the op and its layer if the compiler does.
    """
    check_installed()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        paths = {name: str(folder / name) for name in ("stablehlo", "result", "program")}
        (folder / "stablehlo").write_text(stablehlo)
        job = {
            "topology": topology.name,
            "config": topology.chip.config,
            "replicas": replicas,
            **paths,
        }
        (folder / "job").write_text(json.dumps(job))
        process = subprocess.run(
            [sys.executable, str(_SCRIPT), str(folder / "job")],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        result = folder / "result"
        if not result.exists():
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise TrainingError(
                f"the TPU compiler ended with code {process.returncode}: {last}; {_versions()}"
            )
        answer = json.loads(result.read_text())
        if "error" in answer:
            raise _failure(answer, stablehlo)
        program = Program((folder / "program").read_text())
    memory, cost = answer["memory"], answer["cost"]
    operations, copies = program.roofline(topology.chip.peak_flops, topology.chip.counted_bandwidth)
    return Compiled(
        arguments=memory["argument"],
        outputs=memory["output"] - memory["alias"],
        temporaries=memory["temp"],
        code=memory["generated_code"],
        flops=cost["flops"],
        roofline_seconds=operations + copies,
        copies_seconds=copies,
        bytes_accessed=cost["bytes accessed"],
        program=program,
        compile_seconds=answer["seconds"],
    )


def _versions():
    known = ", ".join(f"{name} {version}" for name, version in KNOWN_TO_WORK.items())
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in KNOWN_TO_WORK)
    return f"installed: {found}; known to work: {known}"


def _failure(answer, stablehlo):
    """Returns the exception that explains the compiler's message."""
    message = answer["error"]
    if answer["kind"] == "interface":
        return TrainingError(
            f"this version of the TPU compiler has another interface ({message}); {_versions()}"
        )
    number = r"\(?([\d.]+)([KMGTP])\)?"
    memory = re.search(rf"Used {number} of {number} hbm", message) or re.search(
        rf"{number} exceeds available HBM {number}", message
    )
    if memory:
        return DoesNotFit(_bytes(memory[1], memory[2]), _bytes(memory[3], memory[4]))
    return TrainingError(f"the TPU compiler refuses the program: {_place(message, stablehlo)}")


def _bytes(number, unit):
    return int(float(number) * 1024 ** (1 + "KMGTP".index(unit)))


def _place(message, stablehlo):
    """Returns the compiler's message in one line, and the layers of the operation that it names."""
    text = " ".join(message.split())[:400]
    words = re.findall(r"[a-z0-9]+", re.sub(r"[_-]", "", message.lower()))
    for opcode in sorted(
        set(re.findall(r"= \"?stablehlo\.(\w+)", stablehlo)), key=len, reverse=True
    ):
        if opcode.replace("_", "") in words:
            places = _places(opcode, stablehlo)
            if places:
                return f"{opcode} at {', '.join(places)}: {text}"
    return text


def _places(opcode, stablehlo):
    """Up to three distinct TensorFlow names of an operation's occurrences."""
    locations = dict(re.findall(r"^(#loc\d+) = (loc\(.*)$", stablehlo, re.M))
    places = {}
    for location in re.findall(rf"= \"?stablehlo\.{opcode}\b.*loc\((#loc\d+)\)", stablehlo):
        text = locations.get(location, "")
        first = re.match(r"loc\(fused(?:<.*>)?\[(#loc\d+)", text)  # the op, then its type
        name = re.match(r'loc\("([^"]+)"', locations.get(first[1], "") if first else text)
        if name:
            places[name[1]] = None
    return list(places)[:3]
