"""The picture: throughput and CPU per GiB of every contestant in every case, as bars with their quartiles."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntxengine.bench.judge import UNITS
from ntxengine.bench.result import CaseResult, ContestantResult, Result
from ntxengine.bench.stats import Spread
from ntxengine.errors import OptionsError, TargetError
from ntxengine.units import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"engine": "#0b6e4f", "ntx": "#6bbf59", "nbdcopy": "#d1495b", "qemu-img": "#edae49", "limit": "#8d99ae"}
_SERVER_COLOUR = "#cccccc"
_MARKS = {"stretch": "++", "reached": "+", "missed": "-", "unknown": "?"}
_WIDTH = 12.0
_ROW = 0.28  # inches per bar
_CASE = 0.75  # inches for the heading of a case and the space around it
_HEAD = 0.8
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
    height = _HEAD + sum(_CASE + _ROW * count for count in rows)
    figure, grid = pyplot.subplots(
        len(cases), 2, figsize=(_WIDTH, height), squeeze=False, gridspec_kw={"height_ratios": rows}
    )
    try:
        for (left, right), case in zip(grid, cases, strict=True):
            _throughput(left, case)
            _cpu(right, case)
        figure.suptitle(_heading(result), x=0.02, y=1 - 0.12 / height, ha="left", va="top", fontsize=9)
        figure.tight_layout()
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


def _throughput(axes: Axes, case: CaseResult) -> None:
    for row, contestant in enumerate(case.contestants):
        value = contestant.summary.get("throughput")
        if value is None:
            _explain(axes, row, contestant)
            continue
        axes.barh(row, value.median, _BAR, color=_colour(contestant), **_whiskers(value))
        _label(axes, row, value.q3, f"{value.median:.2f}")
    _dress(axes, case, f"throughput, {UNITS['throughput']}")
    axes.set_title(f"{case.name}: {case.title}", loc="left", fontsize=9, fontweight="bold")


def _cpu(axes: Axes, case: CaseResult) -> None:
    """Client CPU in the contestant's colour, the server's behind it in grey; the quartiles are the client's."""
    for row, contestant in enumerate(case.contestants):
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
    axes.set_yticks(range(len(case.contestants)), [each.name for each in case.contestants])
    axes.set_ylim(len(case.contestants) - 0.4, -0.6)
    axes.set_xlabel(label, fontsize=7)
    # Room for the numbers behind the bars.
    axes.set_xlim(0, max(axes.get_xlim()[1], 1e-9) * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_axisbelow(True)
