"""The signals that end a command, as whoever started us wants them.

A signal that was ignored when we were started (SIGHUP under nohup, SIGINT of a background job) stays ignored.
After the first one SIGINT and SIGTERM end the process at once.  A further SIGHUP does nothing: when a terminal is
closed both the shell and the kernel send one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from ntxengine.cli.errors import Interrupted
from ntxengine.cli.streams import hurry

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def heeded() -> tuple[signal.Signals, ...]:
    """Return the signals that end us: those that were not ignored when we were started."""
    return tuple(number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN)


@contextmanager
def raised_as_interrupted(what_happened: str) -> Iterator[None]:
    """Make the first signal an Interrupted, for work that is no coroutine."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        for each in numbers:
            # A function, not SIG_IGN: what we start must not inherit that.
            signal.signal(each, _do_nothing if each == signal.SIGHUP else signal.SIG_DFL)
        hurry()
        name = signal.Signals(number).name
        raise Interrupted(f"interrupted by {name}: {what_happened}", signal_number=number)

    numbers = heeded()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """The second hang-up of one terminal."""
