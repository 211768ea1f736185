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
        flops: floating-point operations by the compiler's cost analysis, loops counted once.
        bytes_accessed: bytes read and written by the same analysis; a copy counts several times.
        seconds: how long the compiler took.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int
    flops: float
    bytes_accessed: float
    seconds: float

    @property
    def memory(self) -> int:
        """Bytes that the program takes of a chip's memory."""
        return self.arguments + self.outputs + self.temporaries + self.code


def check_installed() -> None:
    """Raises TrainingError, with what to install, if the compiler is missing."""
    try:
        for package in KNOWN_TO_WORK:
            importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise TrainingError(
            f"{error.name} is not installed; the TPU compiler comes with "
            "pip install 'lit_tf[tpu-preflight]'"
        ) from error


def compile_stablehlo(stablehlo: str, topology: Topology, *, replicas: int) -> Compiled:
    """Compiles a program's text for that many replicas on a slice, one replica a chip.

    Raises:
        DoesNotFit: it needs more memory than there is.
        TrainingError: the compiler refuses it.
    """
    check_installed()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        paths = {name: str(folder / name) for name in ("stablehlo", "result")}
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
        if not (folder / "result").exists():
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise TrainingError(
                f"the TPU compiler ended with code {process.returncode}: {last}; {_versions()}"
            )
        answer = json.loads((folder / "result").read_text())
    if "error" in answer:
        raise compiler_error(**answer)
    return Compiled(**answer)


def compiler_error(error: str, kind: str) -> TrainingError:
    """Returns the exception for what the compiler's process says; of kind "interface" or other."""
    if kind == "interface":
        return TrainingError(
            f"this version of the TPU compiler has another interface ({error}); {_versions()}"
        )
    number = r"\(?([\d.]+)([KMGTP])\)?"
    memory = re.search(rf"Used {number} of {number} hbm", error) or re.search(
        rf"{number} exceeds available HBM {number}", error
    )
    if memory:
        return DoesNotFit(_bytes(memory[1], memory[2]), _bytes(memory[3], memory[4]))
    return TrainingError(f"the TPU compiler refuses the program: {' '.join(error.split())[:400]}")


def _versions():
    known = ", ".join(f"{name} {version}" for name, version in KNOWN_TO_WORK.items())
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in KNOWN_TO_WORK)
    return f"installed: {found}; known to work: {known}"


def _bytes(number, unit):
    return int(float(number) * 1024 ** (1 + "KMGTP".index(unit)))
