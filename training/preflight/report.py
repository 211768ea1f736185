"""What the preflight found, as words, as a table row and as JSON."""

import dataclasses

from .chips import GIB, Topology
from .compiler import Compiled


@dataclasses.dataclass(frozen=True)
class Report:
    """One program on one topology, per chip unless it says otherwise.

    Attributes:
        title: what was compiled: the config's spec, or the function of the model.
        topology: name of the slice.
        chips: how many chips run it together.
        batch_size: global batch.
        fits: whether it fits in a chip's memory.
        memory: {"chip": what it has, "total": what the program takes, and of that "parameters",
            "optimizer", "inputs", "outputs", "temporaries" (activations among them), "program"}, in
            bytes. Of a program that does not fit, "total" and "chip" as the compiler counts them.
        model_flops: what the model needs for a step, all chips together (see `flops`).
        program_flops: what the compiled program does in a step, by the compiler's cost analysis.
        program_bytes: what it reads and writes, by the same analysis.
        flops_seconds: the time of the FLOPs at the chip's peak.
        bytes_seconds: the time of the bytes at its memory's bandwidth.
        roofline_seconds: the longer of the two.
        roofline_mfu: model FLOPs over what the chips could have done in `roofline_seconds`.
        compile_seconds: how long the compiler took.
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
    title: str,
    topology: Topology,
    batch_size: int,
    compiled: Compiled,
    *,
    sizes: dict,
    model_flops: int,
) -> Report:
    """Sums up a compiled program; `sizes` and `model_flops` as `programs.Program` has them."""
    chip = topology.chip
    at_peak = model_flops / topology.chips / chip.peak_flops
    # The compiler counts the body of a loop once, but what the model needs is certain.
    flops_seconds = max(at_peak, compiled.flops / chip.peak_flops)
    bytes_seconds = compiled.bytes_accessed / chip.bandwidth
    roofline_seconds = max(flops_seconds, bytes_seconds)
    return Report(
        title=title,
        topology=topology.name,
        chips=topology.chips,
        batch_size=batch_size,
        fits=compiled.memory <= chip.memory,
        memory={
            "chip": chip.memory,
            "total": compiled.memory,
            **sizes,
            "inputs": max(0, compiled.arguments - sum(sizes.values())),
            "outputs": compiled.outputs,
            "temporaries": compiled.temporaries,
            "program": compiled.code,
        },
        model_flops=model_flops,
        program_flops=compiled.flops,
        program_bytes=compiled.bytes_accessed,
        flops_seconds=flops_seconds,
        bytes_seconds=bytes_seconds,
        roofline_seconds=roofline_seconds,
        roofline_mfu=at_peak / roofline_seconds,
        compile_seconds=compiled.seconds,
    )


def does_not_fit(title, topology, batch_size, error, *, sizes, model_flops) -> Report:
    """The report of a program that the compiler refused for lack of memory (a `DoesNotFit`)."""
    return Report(
        title=title,
        topology=topology.name,
        chips=topology.chips,
        batch_size=batch_size,
        fits=False,
        memory={"chip": error.available, "total": error.needed, **sizes},
        model_flops=model_flops,
    )


def as_text(report: Report) -> str:
    """Returns the report for a person to read."""
    memory = report.memory
    share = memory["total"] / memory["chip"]
    lines = [
        f"{report.title}",
        f"  on {report.topology}: {report.chips} chips, global batch {report.batch_size:,}, "
        f"{report.batch_size // report.chips:,} per chip",
        "",
        f"  memory per chip     {_gib(memory['total'])} of {_gib(memory['chip'])} ({share:.0%})",
    ]
    for name in ("parameters", "optimizer", "inputs", "outputs", "temporaries", "program"):
        if name in memory:
            lines.append(f"    {name:<17} {_gib(memory[name])}")
    if not report.fits:
        lines += ["", f"  DOES NOT FIT: {share:.2f} times what the chip has"]
        return "\n".join(lines)
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
    cells = (
        f"`{report.title}`",
        f"{report.topology} ({report.chips})",
        f"{report.batch_size // report.chips:,}",
        f"{memory['total'] / GIB:.1f} of {memory['chip'] / GIB:.1f} GiB",
    )
    if not report.fits:
        return (*cells, "does not fit", "-")
    return (*cells, f"{1e3 * report.roofline_seconds:.3g} ms", f"{report.roofline_mfu:.0%}")


def failed_row(title: str, topology: str, error: Exception) -> tuple[str, ...]:
    """Returns the cells of `COLUMNS` for a program that did not compile."""
    reason = " ".join(str(error).split()).replace("|", "/")[:200]
    return (f"`{title}`", topology, "-", "-", f"does not compile: {reason}", "-")


def markdown_head() -> str:
    """Returns the first two lines of a table in Markdown."""
    return "\n".join(map(markdown_row, (COLUMNS, ("---",) * len(COLUMNS))))


def markdown_row(cells: tuple[str, ...]) -> str:
    """Returns a line of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def as_markdown(reports: list[Report]) -> str:
    """Returns a table of reports, as Markdown."""
    return "\n".join([markdown_head(), *(markdown_row(as_row(r)) for r in reports)])


def _gib(size):
    return f"{size / GIB:10.2f} GiB"


def _ms(seconds):
    return f"{1e3 * seconds:10.2f} ms"
