"""`ntx bench`: our data plane against its peers, on this machine."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ntxengine.bench.judge import UNITS
from ntxengine.bench.plot import check_matplotlib, draw
from ntxengine.bench.result import BarResult, CaseResult, ContestantResult, Result, read_result, write_result
from ntxengine.bench.rounds import run_suite
from ntxengine.bench.stats import Spread
from ntxengine.bench.suite import Quantity, Suite, load_suite, narrowed, suite_names
from ntxengine.cli import complete
from ntxengine.cli.errors import SOME_FAILED
from ntxengine.cli.options import common_options, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FILE, FOLDER, LocalPath
from ntxengine.cli.signals import raised_as_interrupted
from ntxengine.cli.table import Column
from ntxengine.cli.text import printable
from ntxengine.cli.values import SIZE
from ntxengine.units import MIB, format_size

_RESULTS = [
    Column("CASE"),
    Column("WHO"),
    Column("GiB/s", right=True),
    Column("QUARTILES", right=True),
    Column("CLIENT s/GiB", right=True),
    Column("QUARTILES", right=True),
    Column("SERVER s/GiB", right=True),
    Column("MiB", right=True),
]
_BARS = [Column("CASE"), Column("BAR", fold=True), Column("MEDIAN", right=True), Column("QUARTILES"), Column("OUTCOME")]


@click.command("bench")
@click.argument("suite_name", metavar="[SUITE|FILE.yaml]", default="default", shell_complete=complete.suites)
@click.option("--rounds", type=click.IntRange(1, 1000), metavar="N", help="Counted rounds of each case.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Only this case; repeatable.")
@click.option("--size", type=SIZE, help="Size of every disk, instead of what the suite says.")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Where the result and the picture go.  [default: bench-results; with --plot, beside the result]",
)
@click.option(
    "--work-dir",
    type=LocalPath(file_okay=False, exists=True),
    metavar="DIR",
    help="Where disks and images are made, and removed again.  [default: the system's temporary directory]",
)
@click.option("--list", "only_list", is_flag=True, help="Show the suites, or the cases of SUITE, and measure nothing.")
@click.option("--no-plot", is_flag=True, help="Draw no picture: matplotlib is not needed.")
@click.option(
    "--plot",
    "old_result",
    type=FILE,
    metavar="RESULT.json",
    help="Draw the picture of an earlier result, and measure nothing.",
)
@common_options
@table_option
@click.pass_context
def bench_command(
    ctx: click.Context,
    suite_name: str,
    rounds: int | None,
    cases: tuple[str, ...],
    size: int | None,
    out: Path | None,
    work_dir: Path | None,
    only_list: bool,
    no_plot: bool,
    old_result: Path | None,
    screen: Screen,
) -> int:
    """Measure copying on this machine: ours against nbdcopy and qemu-img, in alternating rounds.

    Every round runs every contestant once, in rotated order, after a warm-up round that is checked and not counted.
    Shown are medians, quartiles and the medians of ratios taken round by round.  The result (JSON, with every sample)
    and the picture (PNG, SVG) go to --out.  What is not installed is shown as absent, with the reason.

    \b
    Examples:
      ntx bench                                all of it: some 20 minutes, 12 GiB
      ntx bench --case dense-null --rounds 3   one case
      ntx bench smoke                          does it work here?  Seconds
      ntx bench --plot bench-results/default.json
    """
    if old_result is not None:
        if no_plot:
            raise click.UsageError("--plot contradicts --no-plot: give one of them")
        check_matplotlib()
        result = read_result(old_result)
        _save_picture(result, (out or old_result.parent) / old_result.stem, screen)
        return 0
    if only_list:
        was_named = ctx.get_parameter_source("suite_name") is click.core.ParameterSource.COMMANDLINE
        _list(load_suite(suite_name) if was_named else None, screen)
        return 0
    suite = narrowed(load_suite(suite_name), cases=cases, rounds=rounds, size=size)
    if not no_plot:
        check_matplotlib()
    base = _place_for(suite, Path("bench-results") if out is None else out)
    with raised_as_interrupted("servers, disks and images are removed, nothing is kept"):
        result = run_suite(suite, work_dir=work_dir, say=screen.note)
    screen = screen.after_work()
    write_result(result, base.with_suffix(".json"))
    if not no_plot:
        _save_picture(result, base, screen)
    if screen.as_json:
        screen.result(msgspec.to_builtins(result))
    else:
        _show(result, screen)
        screen.note(f"result: {base.with_suffix('.json')}")
    return SOME_FAILED if result.failed else 0


def _place_for(suite: Suite, folder: Path) -> Path:
    """Make the folder of the results.  What is there already is replaced by what is measured now."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / suite.name


def _save_picture(result: Result, base: Path, screen: Screen) -> None:
    base.parent.mkdir(parents=True, exist_ok=True)
    for path in draw(result, base):
        screen.note(f"picture: {path}")


# ------------------------------------------------------------------------------------------------------- showing


def _list(suite: Suite | None, screen: Screen) -> None:
    if suite is not None:
        if screen.as_json:
            screen.result(msgspec.to_builtins(suite, enc_hook=int))  # a size is an int of its own kind
            return
        rows = [(case.name, case.title, ", ".join(case.who)) for case in suite.cases]
        screen.table([Column("CASE"), Column("WHAT", fold=True), Column("WHO", fold=True)], rows)
        return
    suites = [load_suite(name) for name in suite_names()]
    if screen.as_json:
        screen.result({each.name: {"title": each.title, "cases": len(each.cases)} for each in suites})
        return
    screen.table(
        [Column("SUITE"), Column("CASES", right=True), Column("ROUNDS", right=True), Column("WHAT")],
        [(each.name, str(len(each.cases)), str(each.rounds), each.title) for each in suites],
    )


def _show(result: Result, screen: Screen) -> None:
    screen.table(_RESULTS, [_row(case, each, result) for case in result.cases for each in case.contestants])
    for case in result.cases:
        if case.absent:
            screen.line(f"{case.name}: cannot be run here: {case.absent}")
            continue
        for each in case.contestants:
            if each.failed or each.absent:
                how = "failed" if each.failed else "is absent"
                screen.line(f"{case.name}: {each.name} {how}: {printable(each.failed or each.absent or '')}")
    screen.line()
    bars = [_bar_row(case, bar) for case in result.cases for bar in case.bars]
    if bars:
        screen.table(_BARS, bars)
        screen.line()
    machine = result.machine
    screen.line(
        f"{machine.cpu}, {machine.cores} cores, {format_size(machine.memory)}, Linux {machine.kernel}; medians of "
        f"{result.rounds} rounds"
    )


def _row(case: CaseResult, contestant: ContestantResult, result: Result) -> tuple[str, ...]:
    if not contestant.samples:
        return (case.name, contestant.name, "failed" if contestant.failed else "absent", "", "", "", "", "")
    found = contestant.summary
    memory = found["peak_memory"].median
    # Linux counts for a child what its parent had when it was started: below that nothing is known.
    is_hidden = contestant.program != "engine" and memory * MIB <= result.memory_floor
    return (
        case.name,
        contestant.name,
        _median(found.get("throughput"), "throughput"),
        _quartiles(found.get("throughput"), "throughput"),
        _median(found.get("client_cpu"), "client_cpu"),
        _quartiles(found.get("client_cpu"), "client_cpu"),
        _median(found.get("server_cpu"), "server_cpu"),
        f"<{memory:.0f}" if is_hidden else f"{memory:.0f}",
    )


def _bar_row(case: CaseResult, bar: BarResult) -> tuple[str, ...]:
    if bar.value is None:
        return (case.name, bar.text, "", "", bar.outcome)
    unit = "" if bar.against else f" {UNITS[bar.quantity]}"
    return (case.name, bar.text, f"{bar.value.median:.2f}{unit}", _range(bar.value, 2), bar.outcome)


def _median(value: Spread | None, quantity: Quantity) -> str:
    return "-" if value is None else f"{value.median:.{_digits(quantity)}f}"


def _quartiles(value: Spread | None, quantity: Quantity) -> str:
    return "" if value is None else _range(value, _digits(quantity))


def _range(value: Spread, digits: int) -> str:
    return f"{value.q1:.{digits}f}-{value.q3:.{digits}f}"


def _digits(quantity: Quantity) -> int:
    return 2 if quantity == "throughput" else 3
