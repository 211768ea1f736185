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
        program_flops: what the compiled program does in a step, loops counted once.
        roofline_seconds: every operation at the chip's peak arithmetic or at the memory bandwidth
            that the compiler counts on, whichever takes longer, and every copy between the chip's
            memories, one after the other.
        copies_seconds: those copies' part of it, which can overlap with the rest.
        schedule_seconds: sum of the cycles by which the compiler chose each operation's tiling, and
            the collectives at the links' published bandwidth, none of it overlapped. None, like
            `schedule_mfu` and `layout_seconds`, if the program does not state the cycles.
        roofline_mfu: model FLOPs over what the chips could have done in `roofline_seconds`.
        overlapped_mfu: the same without `copies_seconds`.
        schedule_mfu: the same for `schedule_seconds`.
        collectives: [{"op", "count", "bytes"}, ...].
        collective_seconds: what they take at the links' published bandwidth.
        layout_seconds: part of `schedule_seconds` that only changes layouts.
        slowest: [{"name", "count", "seconds"}, ...] by `schedule_seconds`.
        float32_products: [{"name", "count"}, ...], matrix products with float32 operands.
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
    roofline_seconds: float = 0.0
    copies_seconds: float = 0.0
    schedule_seconds: float | None = None
    roofline_mfu: float = 0.0
    overlapped_mfu: float = 0.0
    schedule_mfu: float | None = None
    collectives: list = dataclasses.field(default_factory=list)
    collective_seconds: float = 0.0
    layout_seconds: float | None = None
    slowest: list = dataclasses.field(default_factory=list)
    float32_products: list = dataclasses.field(default_factory=list)
    compile_seconds: float = 0.0

    def to_dict(self) -> dict:
        """Returns plain values, for JSON."""
        return dataclasses.asdict(self)


def make_report(
    title: str,
    topology: Topology,
    batch_size: int,
    compiled: Compiled,
    *,
    sizes: dict,
    model_flops: int,
    slowest: int = 10,
) -> Report:
    """Sums up a compiled program.

    Args:
        title: what was compiled.
        topology: where it is to run, on all of its chips.
        batch_size: global batch.
        compiled: what the compiler made of it.
        sizes: {"parameters", "optimizer"}: bytes that a chip holds of each.
        model_flops: what the model needs for a step, all chips together.
        slowest: how many of the slowest operations to list.
    """
    chip, program = topology.chip, compiled.program
    collectives = program.collectives()
    collective_seconds = sum(
        # A sum that stays scattered, or a gather, sends a byte once where an all-reduce sends two.
        topology.all_reduce_seconds(size) * (1 if op == "all-reduce" else 0.5)
        for op, _, size in collectives
    )
    at_peak = model_flops / (topology.chips * chip.peak_flops)
    schedule_seconds = schedule_mfu = layout_seconds = None
    if program.cycles:
        schedule_seconds = program.cycles / chip.clock + collective_seconds
        schedule_mfu = at_peak / schedule_seconds
        layout_seconds = program.cycles_of("copy") / chip.clock
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
        roofline_seconds=compiled.roofline_seconds,
        copies_seconds=compiled.copies_seconds,
        schedule_seconds=schedule_seconds,
        roofline_mfu=at_peak / compiled.roofline_seconds,
        overlapped_mfu=at_peak / (compiled.roofline_seconds - compiled.copies_seconds),
        schedule_mfu=schedule_mfu,
        collectives=[{"op": op, "count": n, "bytes": size} for op, n, size in collectives],
        collective_seconds=collective_seconds,
        layout_seconds=layout_seconds,
        slowest=[
            {"name": name, "count": n, "seconds": cycles / chip.clock}
            for name, n, cycles in program.slowest(slowest)
        ],
        float32_products=[{"name": name, "count": n} for name, n in program.float32_products()],
        compile_seconds=compiled.compile_seconds,
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
        *_estimates(report),
        f"  copies of memory    {_ms(report.copies_seconds)} of the roofline; "
        f"{report.overlapped_mfu:.1%} MFU if they overlap",
        f"  collectives         {_ms(report.collective_seconds)} at the links' bandwidth",
    ]
    for entry in report.collectives:
        lines.append(f"    {entry['op']:<17} {entry['count']:>4} x, {entry['bytes'] / 1e6:,.1f} MB")
    if report.slowest:
        lines.append("  slowest operations, by schedule")
        for entry in report.slowest:
            lines.append(f"    {_ms(entry['seconds'])}  {entry['count']:>4} x  {entry['name']}")
    if report.float32_products:
        lines.append("  matrix products that read float32")
        for entry in report.float32_products:
            lines.append(f"    {entry['count']:>4} x  {entry['name']}")
    lines += ["", f"  FITS (compiled in {report.compile_seconds:.0f} s)"]
    return "\n".join(lines)


def _estimates(report):
    """Returns the lines with the estimated time of a step."""
    step = f"  estimated step      {_ms(report.roofline_seconds)} by roofline"
    mfu = f"  estimated MFU       {report.roofline_mfu:10.1%}    by roofline"
    if report.schedule_seconds is None:
        return [step, mfu, "  no schedule         (the compiler states no cycles for this chip)"]
    return [
        f"{step}, {_ms(report.schedule_seconds)} by schedule",
        f"{mfu}, {report.schedule_mfu:10.1%}    by schedule",
        f"  layout changes      {_ms(report.layout_seconds)} of the schedule",
    ]


COLUMNS = (
    "config", "topology", "batch per chip", "memory per chip", "step (roofline / schedule)",
    "MFU (roofline / schedule)",
)  # fmt: skip


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
    step, mfu = f"{1e3 * report.roofline_seconds:.3g} /", f"{report.roofline_mfu:.0%} /"
    if report.schedule_seconds is None:
        return (*cells, f"{step} - ms", f"{mfu} -")
    return (
        *cells,
        f"{step} {1e3 * report.schedule_seconds:.3g} ms",
        f"{mfu} {report.schedule_mfu:.0%}",
    )


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
