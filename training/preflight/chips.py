"""What Google publishes about each TPU chip, and topologies by name.

Peak, memory and its bandwidth are the "Key chip specifications" of cloud.google.com/tpu/docs/v4,
.../v5e, .../v5p and .../v6e.
"""

import dataclasses
import math
import re

from lit_tf.errors import TrainingError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip, all its cores together (on v4 and v5p they run one program: "megacore")."""

    name: str  # as in topologies, "v4"
    peak_flops: float  # bfloat16 multiplications and additions per second
    memory: int  # bytes of high-bandwidth memory
    bandwidth: float  # bytes per second of that memory
    dimensions: int  # of the torus that its slices are cut from
    config: str | None = None  # of libtpu, if its default is not one device a chip


GIB = 2**30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 1228e9, 3, "megacore"),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 2),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 3),
        Chip("v6e", 918e12, 32 * GIB, 1640e9, 2),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of a TPU pod."""

    name: str  # as libtpu calls it, "v4:2x2x4"
    chip: Chip
    shape: tuple[int, ...]  # chips along each dimension

    @property
    def chips(self) -> int:
        """How many chips it has, each of which is one replica."""
        return math.prod(self.shape)


def parse_topology(name: str) -> Topology:
    """Returns the topology of a name such as "v4:2x2x4", or raises TrainingError."""
    match = re.fullmatch(r"(v\d[a-z]?):(\d+(?:x\d+)+)", name)
    chip = CHIPS.get(match[1]) if match else None
    shape = tuple(int(n) for n in match[2].split("x")) if match else ()
    if chip is None or len(shape) != chip.dimensions or 0 in shape:
        examples = ", ".join(f"{c.name}:{'x'.join('2' * c.dimensions)}" for c in CHIPS.values())
        raise TrainingError(f"there is no topology {name!r}; expected CHIP:SHAPE as in {examples}")
    return Topology(name, chip, shape)
