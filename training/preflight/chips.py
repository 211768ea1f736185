"""What Google publishes about each TPU chip, and topologies by name.

Peak, memory and bandwidth: cloud.google.com/tpu/docs/v4, .../v5e, .../v5p and .../v6e, "Key chip
specifications". Bandwidth of one interconnect link in one direction: the table in "How to Think
About TPUs", jax-ml.github.io/scaling-book/tpus. The clock is what the published peak implies:
peak / (2 * multiply-accumulates per cycle), with 128 x 128 matrix units (256 x 256 from v6e on),
eight per chip on v4 and v5p, four on v5e and v6e. The share of the bandwidth that the compiler
counts on is not published. We took it from `optimal_seconds` of an optimizer's update.
"""

import dataclasses
import math
import re

from lit_tf.errors import TrainingError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip, all its cores together (on v4 and v5p they run one program: "megacore").

    Attributes:
        name: as in topologies, "v4".
        peak_flops: bfloat16 multiplications and additions per second.
        memory: bytes of high-bandwidth memory.
        counted_bandwidth: what the compiler takes it for in `optimal_seconds`.
        link_bandwidth: bytes per second that one interconnect link carries in one direction.
        macs_per_cycle: multiply-accumulates per cycle of all matrix units.
        dimensions: of the torus that its slices are cut from.
        config: name of libtpu's chip configuration, if its default is not one device a chip.
    """

    name: str
    peak_flops: float
    memory: int
    counted_bandwidth: float
    link_bandwidth: float
    macs_per_cycle: int
    dimensions: int
    config: str | None = None

    @property
    def clock(self) -> float:
        """Cycles per second."""
        return self.peak_flops / (2 * self.macs_per_cycle)


GIB = 2**30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIB, 983e9, 45e9, 8 * 128**2, 3, "megacore"),
        Chip("v5e", 197e12, 16 * GIB, 738e9, 45e9, 4 * 128**2, 2),
        Chip("v5p", 459e12, 95 * GIB, 2350e9, 90e9, 8 * 128**2, 3),
        Chip("v6e", 918e12, 32 * GIB, 1640e9, 90e9, 4 * 256**2, 2),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of a TPU pod.

    Attributes:
        name: as libtpu calls it, "v4:2x2x4".
        chip: the chip that it is made of.
        shape: chips along each dimension.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many chips it has, each of which is one replica."""
        return math.prod(self.shape)

    def all_reduce_seconds(self, size: int) -> float:
        """Time to sum `size` bytes over all chips at the published bandwidth, if nothing else runs.

        A ring sends nearly every byte twice; the dimensions of the slice share the work, with one
        link in each direction that a slice without wraparound offers every chip.
        """
        axes = sum(n > 1 for n in self.shape)
        if not axes:
            return 0.0
        n = self.chips
        return 2 * size * (n - 1) / n / (axes * self.chip.link_bandwidth)


def parse_topology(name: str) -> Topology:
    """Returns the topology of a name such as "v4:2x2x4" or "v5e:4x8".

    Raises:
        TrainingError: the chip is unknown or the shape is none of its.
    """
    match = re.fullmatch(r"(v\d[a-z]?):(\d+(?:x\d+)+)", name)
    chip = CHIPS.get(match[1]) if match else None
    if chip is None:
        raise TrainingError(
            f"unknown topology {name!r}; expected CHIP:SHAPE with a chip of {', '.join(CHIPS)}, "
            "such as v4:2x2x4 or v5e:4x8"
        )
    shape = tuple(int(n) for n in match[2].split("x"))
    if len(shape) != chip.dimensions or 0 in shape:
        example = "x".join("2" * chip.dimensions)
        raise TrainingError(
            f"topology {name!r}: {chip.name} slices have {chip.dimensions} dimensions, as in "
            f"{chip.name}:{example}"
        )
    return Topology(name, chip, shape)
