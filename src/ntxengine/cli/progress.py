"""Progress on stderr: bars for a person, lines for a log, JSON lines for a program, or nothing.

Whoever does the work says `stage`, `update` and `warning`; the view decides what becomes of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import click

from ntxengine import units
from ntxengine.cli.text import elapsed, printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from ntxengine.cli.output import Screen

PLAIN_INTERVAL_S = 5.0
"""A log should not be longer than the work is worth."""

JSON_INTERVAL_S = 1.0

BAR_WIDTH = 16
"""What is left of 80 columns."""


class Amounts(Protocol):
    """What of a transfer's progress is shown (ntxengine.copy.Progress has it)."""

    @property
    def bytes_done(self) -> int: ...
    @property
    def bytes_total(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def bottleneck(self) -> str: ...
    @property
    def bottleneck_share(self) -> float: ...


@dataclass(frozen=True)
class Amount:
    """Amounts of one's own, where no transfer counts them."""

    bytes_done: int
    bytes_total: int
    seconds: float
    bottleneck: str = ""
    bottleneck_share: float = 0.0


class View:
    """Shows nothing; the base of the others.  A context manager that leaves the terminal as it was."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def stage(self, name: str, detail: str = "") -> None:
        """The work enters a new stage."""

    def update(self, label: str, amounts: Amounts) -> None:
        """The transfer called `label` has come this far."""

    def warning(self, text: str) -> None:
        """Something is worse than expected."""
        self._screen.warning(text)

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainView(View):
    """Lines: each stage, and each transfer every few seconds and when it is done."""

    def __init__(self, screen: Screen, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(screen)
        self._pace = Pace(PLAIN_INTERVAL_S, now)

    def stage(self, name: str, detail: str = "") -> None:
        click.echo(_stage_line(name, detail), err=True)

    def update(self, label: str, amounts: Amounts) -> None:
        if self._pace.is_due(label, amounts):
            click.echo(f"  {printable(label)}: {describe(amounts)}", err=True)


class JsonView(View):
    """JSON lines: the same as PlainView, for a program."""

    def __init__(self, screen: Screen, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(screen)
        self._pace = Pace(JSON_INTERVAL_S, now)

    def stage(self, name: str, detail: str = "") -> None:
        click.echo(json.dumps({"message_type": "stage", "name": name, "detail": detail}), err=True)

    def update(self, label: str, amounts: Amounts) -> None:
        if self._pace.is_due(label, amounts):
            line = {
                "message_type": "progress",
                "label": label,
                "bytes_done": amounts.bytes_done,
                "bytes_total": amounts.bytes_total,
                "seconds": round(amounts.seconds, 3),
                "bottleneck": amounts.bottleneck,
                "bottleneck_share": round(amounts.bottleneck_share, 3),
            }
            click.echo(json.dumps(line), err=True)


class BarView(View):
    """Bars on a terminal, one per transfer, with the stages scrolling by above them."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(screen)
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def stage(self, name: str, detail: str = "") -> None:
        click.echo(_stage_line(name, detail), err=True)

    def update(self, label: str, amounts: Amounts) -> None:
        bars = self._started()
        task = self._tasks.get(label)
        if task is None:
            task = self._tasks[label] = bars.add_task(printable(label), total=None, amount="", rate="")
        done, total = shown(amounts)
        rate = units.format_rate(done / amounts.seconds) if amounts.seconds > 0 else ""
        of_total = f" of {units.format_size(total)}" if total else ""
        bars.update(task, completed=done, total=total or None, amount=f"{units.format_size(done)}{of_total}", rate=rate)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _started(self) -> Bars:
        if self._bars is None:
            self._bars = _make_bars()
            self._bars.start()
        return self._bars


class Pace:
    """Decides which updates are worth a line: one per interval and label, and the one that completes it."""

    def __init__(self, interval_s: float, now: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._now = now
        self._last: dict[str, float] = {}
        self._complete: set[str] = set()

    def is_due(self, label: str, amounts: Amounts) -> bool:
        """Return whether to say it, and remember that it was said."""
        is_complete = 0 < amounts.bytes_total <= amounts.bytes_done
        if label in self._complete and is_complete:
            return False
        if not is_complete and self._now() - self._last.setdefault(label, self._now()) < self._interval_s:
            return False
        (self._complete.add if is_complete else self._complete.discard)(label)
        self._last[label] = self._now()
        return True


def make_view(screen: Screen) -> View:
    """Return the view that `screen` asks for."""
    kinds: dict[str, type[View]] = {"bars": BarView, "plain": PlainView, "json": JsonView}
    return kinds.get(screen.progress, View)(screen)


def shown(amounts: Amounts) -> tuple[int, int]:
    """Return what is done and what there is, never more than all."""
    return (min(amounts.bytes_done, amounts.bytes_total) if amounts.bytes_total else amounts.bytes_done), (
        amounts.bytes_total
    )


def bottleneck_line(amounts: Amounts) -> str:
    """Return `target is the bottleneck: 71 % of worker time`."""
    if not amounts.bottleneck:
        return "nothing was waited for"
    return f"{amounts.bottleneck} is the bottleneck: {amounts.bottleneck_share * 100:.0f} % of worker time"


def describe(amounts: Amounts) -> str:
    """Return `1.2 GiB of 4.0 GiB, 30 %, 410.0 MiB/s, 7.0 s left, target is the bottleneck: ...`, as far as known."""
    done, total = shown(amounts)
    parts = [f"{units.format_size(done)} of {units.format_size(total)}" if total else units.format_size(done)]
    if total:
        parts.append(f"{done * 100 // total} %")
    if amounts.seconds > 0 and done:
        rate = done / amounts.seconds
        parts.append(units.format_rate(rate))
        if done < total and amounts.seconds > 1:
            parts.append(f"{elapsed((total - done) / rate)} left")
    if amounts.bottleneck:
        parts.append(bottleneck_line(amounts))
    return ", ".join(parts)


def _stage_line(name: str, detail: str) -> str:
    return printable(f"{name}: {detail}" if detail else name)


def _make_bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        # Of one width, so that the bars do not jump.
        TextColumn("{task.fields[amount]:<22}", markup=False),
        TextColumn("{task.fields[rate]:>12}", markup=False),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=False,
    )
