"""Bars on a terminal, one per transfer, as wide as the terminal is at that moment; messages scroll by above them.

Where there are more than the terminal has lines, those that are full scroll up with the messages: what still runs is
always seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ntxengine.cli.figures import UNKNOWN, Amounts, done_and_total, rate_of, seconds_left
from ntxengine.cli.messages import is_coloured, messages
from ntxengine.cli.text import elapsed, printable, shortened, text_width
from ntxengine.units import format_rate, format_size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

MIN_BAR, MAX_BAR = 10, 40
BAR = "━"

# Of one width each, so that the bars do not jump: "100 %", "59 min 59 s left", "999.9 MiB/s", "999.9 MiB of 999.9 GiB".
PERCENT_WIDTH, LEFT_WIDTH, RATE_WIDTH, AMOUNT_WIDTH = 5, 16, 12, 22
REFRESHES_PER_S = 8


@dataclass(frozen=True)
class Line:
    """One bar with what stands around it."""

    before: str
    filled: int
    rest: int
    after: str

    def __str__(self) -> str:
        return f"{self.before}{BAR * self.filled}{' ' * self.rest}{self.after}"


def bar_line(label: str, amounts: Amounts, *, label_width: int, width: int) -> Line:
    """Return the line of one transfer, at most `width` columns.

    The narrower the terminal, the less is said: first the amounts go, then the rate, then the time left.
    """
    done, total = done_and_total(amounts)
    percent = f"{done * 100 // total} %" if total else ""
    parts = [f"{percent:>{PERCENT_WIDTH}}"]
    # One column stays free: a terminal begins a new line after its last.
    room = width - 1 - (2 + label_width + 1) - (1 + PERCENT_WIDTH) - MIN_BAR
    for text, size in (
        (_left(amounts), LEFT_WIDTH),
        (_rate(amounts), RATE_WIDTH),
        (f"{format_size(done)} of {format_size(total)}" if total else format_size(done), AMOUNT_WIDTH),
    ):
        if room < size + 2:
            break
        room -= size + 2
        parts.append(f"{text:>{size}}")
    bar = min(MIN_BAR + max(room, 0), MAX_BAR)
    filled = bar * done // total if total else 0
    name = shortened(label, label_width)
    before = f"  {name}{' ' * (label_width - text_width(name))} "
    return Line(before, filled, bar - filled, " " + "  ".join(parts))


def _rate(amounts: Amounts) -> str:
    rate = rate_of(amounts.bytes_read, amounts.seconds)
    return UNKNOWN if rate is None else format_rate(rate)


def _left(amounts: Amounts) -> str:
    if amounts.is_flushing:
        return "flushing"
    left = seconds_left(amounts)
    return "" if left is None else f"{elapsed(left)} left"


def _is_full(amounts: Amounts) -> bool:
    done, total = done_and_total(amounts)
    return 0 < total == done and not amounts.is_flushing


class Bars:
    """The bars of one command.  From the first update on they are live, until `stop`."""

    def __init__(self) -> None:
        self._transfers: dict[str, Amounts] = {}
        self._scrolled_up: set[str] = set()
        self._live: Live | None = None

    def update(self, label: str, amounts: Amounts) -> None:
        label = printable(label)
        if label in self._scrolled_up and _is_full(amounts):
            return
        self._scrolled_up.discard(label)
        self._transfers[label] = amounts
        if self._live is None:
            self._start()
        self._make_room()

    def stop(self) -> None:
        """Leave the bars as they are, and the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            messages.console = None

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        no_color = not is_coloured(sys.stderr)
        console = Console(stderr=True, no_color=no_color, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=console,
            get_renderable=lambda: self._render(console),
            refresh_per_second=REFRESHES_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        messages.console = console

    def _make_room(self) -> None:
        live = self._live
        if live is None or len(self._transfers) < live.console.height:
            return
        full = [(label, amounts) for label, amounts in self._transfers.items() if _is_full(amounts)]
        if not full:
            return
        lines = self._lines(full, live.console)
        self._scrolled_up.update(label for label, _ in full)
        self._transfers = {label: each for label, each in self._transfers.items() if label not in self._scrolled_up}
        live.refresh()
        live.console.print(lines)

    def _render(self, console: Console) -> Text:
        # At once: the thread that draws must not see it grow.
        return self._lines(list(self._transfers.items()), console)

    def _lines(self, transfers: Sequence[tuple[str, Amounts]], console: Console) -> Text:
        from rich.text import Text

        width = console.width
        labels = [label for label, _ in transfers] + list(self._scrolled_up)
        label_width = min(max(map(text_width, labels), default=0), max(width // 3, MIN_BAR))
        text = Text(no_wrap=True, overflow="crop", end="")
        for number, (label, amounts) in enumerate(transfers):
            line = bar_line(label, amounts, label_width=label_width, width=width)
            text.append("\n" if number else "")
            text.append(line.before)
            text.append(BAR * line.filled, style="bar.finished" if line.rest == 0 else "bar.complete")
            if console.no_color:
                text.append(" " * line.rest)
            else:
                text.append(BAR * line.rest, style="bar.back")
            text.append(line.after)
        return text
