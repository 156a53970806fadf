"""Progress on stderr: bars for a person, lines for a log, JSON lines for a program, or nothing.

Whoever does the work says `stage`, `update` and `warning`; the view decides what becomes of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ntxengine.cli.bars import Bars
from ntxengine.cli.figures import Amounts, bottleneck_of, done_and_total, rate_of, seconds_left
from ntxengine.cli.messages import messages
from ntxengine.cli.text import elapsed, printable
from ntxengine.units import format_rate, format_size

if TYPE_CHECKING:
    from ntxengine.cli.output import Screen

PLAIN_INTERVAL_S = 5.0
"""A log should not be longer than the work is worth."""

JSON_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Amount:
    """Amounts of one's own, where no transfer counts them."""

    bytes_done: int
    bytes_total: int
    seconds: float
    bytes_read: int | None = None
    bottleneck: str = ""
    bottleneck_share: float = 0.0
    is_flushing: bool = False


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
        _say_stage(name, detail)

    def update(self, label: str, amounts: Amounts) -> None:
        if self._pace.is_due(label, amounts):
            messages.say("progress", f"  {printable(label)}: {describe(amounts)}")


class JsonView(View):
    """JSON lines: the same as PlainView, for a program."""

    def __init__(self, screen: Screen, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(screen)
        self._pace = Pace(JSON_INTERVAL_S, now)

    def stage(self, name: str, detail: str = "") -> None:
        _say_stage(name, detail)

    def update(self, label: str, amounts: Amounts) -> None:
        if self._pace.is_due(label, amounts):
            rate, left = rate_of(amounts.bytes_read, amounts.seconds), seconds_left(amounts)
            fields = {
                "label": label,
                "bytes_done": amounts.bytes_done,
                "bytes_total": amounts.bytes_total,
                "bytes_read": amounts.bytes_read,
                "bytes_per_s": None if rate is None else int(rate),
                "seconds": round(amounts.seconds, 3),
                "seconds_left": None if left is None else round(left, 1),
                "flushing": amounts.is_flushing,
                "bottleneck": amounts.bottleneck,
                "bottleneck_share": round(amounts.bottleneck_share, 3),
            }
            messages.say("progress", label, fields=fields)


class BarView(View):
    """Bars on a terminal, one per transfer, with the stages scrolling by above them."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(screen)
        self._bars = Bars()

    def stage(self, name: str, detail: str = "") -> None:
        _say_stage(name, detail)

    def update(self, label: str, amounts: Amounts) -> None:
        self._bars.update(label, amounts)

    def close(self) -> None:
        self._bars.stop()


class Pace:
    """Decides which updates are worth a line: one per interval and label, and the one that completes it."""

    def __init__(self, interval_s: float, now: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._now = now
        self._last: dict[str, float] = {}
        self._complete: set[str] = set()

    def is_due(self, label: str, amounts: Amounts) -> bool:
        """Return whether to say it, and remember that it was said."""
        is_complete = 0 < amounts.bytes_total <= amounts.bytes_done and not amounts.is_flushing
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


def describe(amounts: Amounts) -> str:
    """Return `1.2 GiB of 4.0 GiB, 30 %, 410.0 MiB/s, 7.0 s left, target is the bottleneck: ...`, as far as known.

    What is all sent, and not yet safe, is `flushing`.
    """
    done, total = done_and_total(amounts)
    parts = [format_size(done)]
    if total:
        parts = [f"{format_size(done)} of {format_size(total)}", f"{done * 100 // total} %"]
    if (rate := rate_of(amounts.bytes_read, amounts.seconds)) is not None:
        parts.append(format_rate(rate))
    if (left := seconds_left(amounts)) is not None:
        parts.append(f"{elapsed(left)} left")
    if amounts.is_flushing:
        parts.append("flushing")
    elif text := bottleneck_of(amounts):
        parts.append(text)
    return ", ".join(parts)


def _say_stage(name: str, detail: str) -> None:
    line = printable(f"{name}: {detail}" if detail else name)
    messages.say("stage", line, fields={"name": name, "detail": detail})
