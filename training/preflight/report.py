"""What the preflight found, as words, as a table row and as JSON."""

import dataclasses

from .chips import GIB, Topology
from .compiler import Compiled, DoesNotFit


@dataclasses.dataclass(frozen=True)
class Report:
    """One program on one topology, per chip unless it says otherwise.

    `memory` is {"chip": what it has, "total": what the program takes, and its parts} in bytes.
    `model_flops` is what the model needs for a step, all chips together; `program_flops` and
    `program_bytes` are the compiler's own counts, and `flops_seconds` and `bytes_seconds` their
    times at the chip's peak and at its memory's bandwidth. `roofline_seconds` is the longer one,
    `roofline_mfu` the share of the peak that the model's FLOPs then are.
    """

    title: str
    topology: str
    chips: int
    batch_size: int
    fits: bool
    memory: dict
    model_flops: int
    program_flops: float = 0.0
    program_bytes: float = 0.0
    flops_seconds: float = 0.0
    bytes_seconds: float = 0.0
    roofline_seconds: float = 0.0
    roofline_mfu: float = 0.0
    compile_seconds: float = 0.0


def make_report(
    title: str, topology: Topology, batch_size: int, program, compiled: Compiled | DoesNotFit
) -> Report:
    """Sums up what the compiler made of a `programs.Program`, or that it has too little memory."""
    about = (title, topology.name, topology.chips, batch_size)
    if isinstance(compiled, DoesNotFit):
        memory = {"chip": compiled.available, "total": compiled.needed, **program.sizes}
        return Report(*about, False, memory, program.model_flops)
    chip, sizes = topology.chip, program.sizes
    at_peak = program.model_flops / topology.chips / chip.peak_flops
    # The compiler counts the body of a loop once, but what the model needs is certain.
    flops_seconds = max(at_peak, compiled.flops / chip.peak_flops)
    bytes_seconds = compiled.bytes_accessed / chip.bandwidth
    parts = {**sizes, "inputs": max(0, compiled.arguments - sum(sizes.values()))}
    parts |= {"outputs": compiled.outputs, "temporaries": compiled.temporaries}
    parts["program"] = compiled.code
    return Report(
        *about,
        compiled.memory <= chip.memory,
        {"chip": chip.memory, "total": compiled.memory, **parts},
        program.model_flops,
        program_flops=compiled.flops,
        program_bytes=compiled.bytes_accessed,
        flops_seconds=flops_seconds,
        bytes_seconds=bytes_seconds,
        roofline_seconds=max(flops_seconds, bytes_seconds),
        roofline_mfu=at_peak / max(flops_seconds, bytes_seconds),
        compile_seconds=compiled.seconds,
    )


def as_text(report: Report) -> str:
    """Returns the report for a person to read."""
    total, has = report.memory["total"], report.memory["chip"]
    parts = [part for part in report.memory.items() if part[0] not in ("chip", "total")]
    lines = [
        report.title,
        f"  on {report.topology}: {report.chips} chips, global batch {report.batch_size:,}, "
        f"{report.batch_size // report.chips:,} per chip",
        "",
        f"  memory per chip     {_gib(total)} of {_gib(has)} ({total / has:.0%})",
        *(f"    {name:<17} {_gib(size)}" for name, size in parts),
    ]
    if not report.fits:
        return "\n".join([*lines, "", f"  DOES NOT FIT: {total / has:.2f} times what the chip has"])
    lines += [
        f"  model FLOPs         {report.model_flops / report.chips / 1e12:10.2f} T per chip; the "
        f"program does {report.program_flops / 1e12:.2f} T",
        f"  program's FLOPs     {_ms(report.flops_seconds)} at the chip's peak",
        f"  program's bytes     {_ms(report.bytes_seconds)} at the memory's bandwidth",
        f"  roofline            {_ms(report.roofline_seconds)}, "
        f"{report.roofline_mfu:.1%} MFU: the longer of the two",
        "",
        f"  FITS (compiled in {report.compile_seconds:.0f} s)",
    ]
    return "\n".join(lines)


COLUMNS = ("config", "topology", "batch per chip", "memory per chip", "roofline", "MFU (roofline)")


def as_row(report: Report) -> tuple[str, ...]:
    """Returns the report as cells of `COLUMNS`."""
    memory = report.memory
    seconds, mfu = f"{1e3 * report.roofline_seconds:.3g} ms", f"{report.roofline_mfu:.0%}"
    return (
        f"`{report.title}`",
        f"{report.topology} ({report.chips})",
        f"{report.batch_size // report.chips:,}",
        f"{memory['total'] / GIB:.1f} of {memory['chip'] / GIB:.1f} GiB",
        *((seconds, mfu) if report.fits else ("does not fit", "-")),
    )


def markdown_row(cells: tuple[str, ...]) -> str:
    """Returns a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def _gib(size):
    return f"{size / GIB:10.2f} GiB"


def _ms(seconds):
    return f"{1e3 * seconds:10.2f} ms"
