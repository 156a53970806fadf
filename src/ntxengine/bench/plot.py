"""The picture: throughput and CPU per GiB of every contestant in every case, as bars with their quartiles.

It is looked at by people who have read nothing else, so it says who is who and what a bar is.  What a person
runs, `ntx`, comes first.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntxengine.bench.judge import UNITS, by_round
from ntxengine.bench.result import CaseResult, ContestantResult, Result
from ntxengine.bench.stats import Spread, paired_ratios, spread
from ntxengine.errors import OptionsError, TargetError
from ntxengine.units import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"ntx": "#0b6e4f", "engine": "#6bbf59", "nbdcopy": "#d1495b", "qemu-img": "#edae49", "limit": "#8d99ae"}
"""By program, in the order in which they are drawn."""
_WHO = {
    "ntx": "what a person runs: the whole command, with the start of Python; digests every block",
    "engine": "the same copy in a process that runs already, as an agent embeds it; digests every block",
    "nbdcopy": "the copy program of libnbd; digests nothing",
    "qemu-img": "`qemu-img convert` or `compare` of QEMU; digests nothing",
    "limit": "sendfile of the whole file, never looked at: a copy that reads its bytes has to do more",
}
_HOW_TO_READ = (
    "Left: longer is better; right: shorter is better.  A bar is the median of the rounds, its whisker the quartiles:",
    "where whiskers overlap, who is ahead is not known.  Small print: what was aimed at, and what was reached",
    "(++ clearly, + yes, - no, ? unknown).",
)
_PEERS = ("nbdcopy", "qemu-img")
_SERVER_COLOUR = "#cccccc"
_MARKS = {"stretch": "++", "reached": "+", "missed": "-", "unknown": "?"}
_WIDTH = 12.0
_ROW = 0.28  # inches per bar
_CASE = 0.75  # inches for the heading of a case and the space around it
_HEAD = 0.6
_LINE = 0.19  # inches per line of the legend
_INDENT = 0.24
_NAMES = 1.1  # inches for the names in the legend
_BAR = 0.72  # of a row
_DPI = 130


def check_matplotlib() -> None:
    """Find out, without loading it, whether there can be a picture.

    Errors: OptionsError with the remedy.
    """
    if find_spec("matplotlib") is None:
        raise OptionsError("the picture needs matplotlib: pip install 'ntxengine[bench]', or give --no-plot")


def draw(result: Result, base: Path) -> list[Path]:
    """Draw `result` into `base`.png and `base`.svg.

    Errors: OptionsError (nothing to draw), TargetError (cannot be written).
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"font.size": 8, "svg.hashsalt": "ntx", "svg.fonttype": "none"})
    from matplotlib import pyplot

    cases = [case for case in result.cases if case.contestants]
    if not cases:
        raise OptionsError("the result has no case: there is nothing to draw")
    rows = [len(case.contestants) for case in cases]
    legend = _legend(cases)
    head = _HEAD + _LINE * (len(legend) + 1)
    height = head + sum(_CASE + _ROW * count for count in rows)
    figure, grid = pyplot.subplots(
        len(cases), 2, figsize=(_WIDTH, height), squeeze=False, gridspec_kw={"height_ratios": rows}
    )
    try:
        for (left, right), case in zip(grid, cases, strict=True):
            _throughput(left, case)
            _cpu(right, case)
        figure.text(0.02, 1 - 0.12 / height, _heading(result), va="top", fontsize=9)
        _draw_legend(figure, legend, height)
        figure.tight_layout(rect=(0, 0, 1, 1 - head / height))
        paths = [base.with_name(f"{base.name}.{kind}") for kind in ("png", "svg")]
        for path in paths:
            figure.savefig(path, dpi=_DPI)
        return paths
    except OSError as exc:
        raise TargetError(f"{base}: the picture cannot be written: {exc.strerror}", errno=exc.errno or 0) from exc
    finally:
        pyplot.close(figure)


def _heading(result: Result) -> str:
    machine = result.machine
    changed = " with changes" if result.dirty else ""
    commit = f", commit {result.commit[:10]}{changed}" if result.commit else ""
    versions = [text for name in ("nbdcopy", "nbdkit", "qemu-img") if (text := result.versions.get(name))]
    kind = "virtual, " if machine.is_virtual else ""
    return "\n".join(
        [
            f"{result.title}: medians and quartiles of {result.rounds} alternating rounds",
            f"ntx {result.versions.get('ntx')}{commit}; {'; '.join(versions)}",
            f"{machine.cpu}, {kind}{machine.cores} cores, {format_size(machine.memory)}; {machine.system}, "
            f"Linux {machine.kernel}; {result.began:%Y-%m-%d}",
        ]
    )


def _in_order(contestants: Iterable[ContestantResult]) -> list[ContestantResult]:
    order = list(_COLOURS)
    return sorted(contestants, key=lambda each: order.index(each.program) if each.program in order else len(order))


def _legend(cases: list[CaseResult]) -> list[tuple[str | None, str, str]]:
    """Return colour, name and description of everyone, and of what else is drawn."""
    everyone = {each.name: each for case in cases for each in _in_order(case.contestants)}
    lines = [(_colour(each), each.name, _description(each)) for each in _in_order(everyone.values())]
    return [
        *lines,
        (_SERVER_COLOUR, "server", "CPU of the NBD servers, behind that of the client"),
        *((None, "", text) for text in _HOW_TO_READ),
    ]


def _draw_legend(figure: Figure, legend: list[tuple[str | None, str, str]], height: float) -> None:
    from matplotlib.patches import Rectangle

    for number, (colour, name, description) in enumerate(legend):
        y = 1 - (_HEAD + _LINE * (number + 0.5)) / height
        if colour is not None:
            corner, size = (_INDENT / _WIDTH, y - 0.05 / height), (0.15 / _WIDTH, 0.1 / height)
            figure.add_artist(Rectangle(corner, *size, color=colour))
        weight = "bold" if name == "ntx" else "normal"
        figure.text((_INDENT + 0.25) / _WIDTH, y, name, va="center", fontweight=weight)
        figure.text((_INDENT + 0.25 + _NAMES) / _WIDTH, y, description, va="center")


def _description(contestant: ContestantResult) -> str:
    """Return what somebody is; one that is not plainly a program is told by its title too."""
    who = _WHO.get(contestant.program, "")
    return who if contestant.name in _WHO or not contestant.title else f"{contestant.title}: {who}"


def _versus(contestant: ContestantResult, case: CaseResult) -> str:
    """Return ` (1.1 x nbdcopy)`: how ours compares, round by round, with the better one of the peers."""
    if contestant.program in (*_PEERS, "limit"):
        return ""
    peers = [each for each in case.contestants if each.program in _PEERS and "throughput" in each.summary]
    if not peers:
        return ""
    best = max(peers, key=lambda each: each.summary["throughput"].median)
    ratio = spread(paired_ratios(by_round(contestant.samples, "throughput"), by_round(best.samples, "throughput")))
    return "" if ratio is None else f"  ({ratio.median:.2f} x {best.name})"


def _throughput(axes: Axes, case: CaseResult) -> None:
    for row, contestant in enumerate(_in_order(case.contestants)):
        value = contestant.summary.get("throughput")
        if value is None:
            _explain(axes, row, contestant)
            continue
        axes.barh(row, value.median, _BAR, color=_colour(contestant), **_whiskers(value))
        _label(axes, row, value.q3, f"{value.median:.2f}{_versus(contestant, case)}")
    _dress(axes, case, f"throughput, {UNITS['throughput']}")
    axes.set_title(f"{case.name}: {case.title}", loc="left", fontsize=9, fontweight="bold")


def _cpu(axes: Axes, case: CaseResult) -> None:
    """Client CPU in the contestant's colour, the server's behind it in grey; the quartiles are the client's."""
    for row, contestant in enumerate(_in_order(case.contestants)):
        value = contestant.summary.get("client_cpu")
        if value is None:
            continue
        axes.barh(row, value.median, _BAR, color=_colour(contestant), **_whiskers(value))
        server = contestant.summary.get("server_cpu")
        end, text = max(value.q3, value.median), f"{value.median:.3f}"
        if server is not None:
            axes.barh(row, server.median, _BAR, left=value.median, color=_SERVER_COLOUR, zorder=0)
            end, text = max(end, value.median + server.median), f"{text} + {server.median:.3f}"
        _label(axes, row, end, text)
    _dress(axes, case, f"CPU, {UNITS['client_cpu']}: client, and server in grey")
    axes.set_yticklabels([])
    reached = [f"{_MARKS[bar.outcome]} {bar.text}{_got(bar.value)}" for bar in case.bars]
    axes.set_title("\n".join(reached), loc="left", fontsize=6)


def _got(value: Spread | None) -> str:
    return "" if value is None else f": {value.median:.2f}"


def _colour(contestant: ContestantResult) -> str:
    return _COLOURS.get(contestant.program, "#555555")


def _whiskers(value: Spread) -> dict[str, Any]:
    return {
        "xerr": [[value.median - value.q1], [value.q3 - value.median]],
        "error_kw": {"elinewidth": 0.9, "capsize": 2, "ecolor": "#222222"},
    }


def _label(axes: Axes, row: int, at: float, text: str) -> None:
    axes.annotate(text, (at, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)


def _explain(axes: Axes, row: int, contestant: ContestantResult) -> None:
    reason = f"failed: {contestant.failed}" if contestant.failed else f"absent: {contestant.absent}"
    axes.annotate(
        reason[:90], (0, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=6, style="italic"
    )


def _dress(axes: Axes, case: CaseResult, label: str) -> None:
    axes.set_yticks(range(len(case.contestants)), [each.name for each in _in_order(case.contestants)])
    for tick in axes.get_yticklabels():
        tick.set_fontweight("bold" if tick.get_text() == "ntx" else "normal")
    axes.set_ylim(len(case.contestants) - 0.4, -0.6)
    axes.set_xlabel(label, fontsize=7)
    # Room for the numbers behind the bars.
    axes.set_xlim(0, max(axes.get_xlim()[1], 1e-9) * 1.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_axisbelow(True)
