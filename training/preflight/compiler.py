"""The TPU compiler on a machine without a TPU: StableHLO in, memory and cost out."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from lit_tf.errors import TrainingError

from .chips import Topology

_SCRIPT = pathlib.Path(__file__).with_name("libtpu_compile.py")
_INSTALL = "pip install 'lit_tf[tpu-preflight]' brings the versions that this is known to work with"


class DoesNotFit(TrainingError):
    """The program needs more memory (`needed`, in bytes) than the chip has (`available`)."""

    def __init__(self, needed: int, available: int):
        self.needed, self.available = needed, available
        super().__init__(needed, available)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of a program, for one chip; its memory in bytes."""

    arguments: int
    outputs: int  # which replace no argument
    temporaries: int
    code: int
    flops: float  # of its cost analysis: loops count once
    bytes_accessed: float  # likewise; copies count several times
    seconds: float  # that the compiler took

    @property
    def memory(self) -> int:
        """Bytes that the program takes of a chip's memory."""
        return self.arguments + self.outputs + self.temporaries + self.code


def check_installed() -> None:
    """Raises TrainingError, with what to install, if the compiler is missing."""
    for package in ("jax", "libtpu"):
        if importlib.util.find_spec(package) is None:
            raise TrainingError(f"the TPU compiler needs {package}: {_INSTALL}")


def compile_stablehlo(stablehlo: str, topology: Topology) -> Compiled:
    """Compiles a program's text for a slice, one replica a chip."""
    with tempfile.TemporaryDirectory() as folder:
        program, result = pathlib.Path(folder, "program"), pathlib.Path(folder, "result")
        program.write_text(stablehlo)
        arguments = [program, topology.name, topology.chip.config or "", topology.chips, result]
        command = [sys.executable, *map(str, (_SCRIPT, *arguments))]
        process = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if not result.exists():
            last = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise TrainingError(f"the TPU compiler ended with code {process.returncode}: {last}")
        answer = json.loads(result.read_text())
    if "error" in answer:
        raise compiler_error(**answer)
    return Compiled(**answer)


def compiler_error(error: str, kind: str) -> TrainingError:
    """Returns the exception for what the compiler's process says; of kind "interface" or other."""
    if kind == "interface":
        return TrainingError(f"this TPU compiler has another interface ({error}); {_INSTALL}")
    number = r"\(?([\d.]+)([KMGTP])\)?"
    for sentence in (f"Used {number} of {number} hbm", f"{number} exceeds available HBM {number}"):
        if memory := re.search(sentence, error):
            return DoesNotFit(_bytes(memory[1], memory[2]), _bytes(memory[3], memory[4]))
    return TrainingError(f"the TPU compiler refuses the program: {' '.join(error.split())[:400]}")


def _bytes(number, unit):
    return int(float(number) * 1024 ** (1 + "KMGTP".index(unit)))
