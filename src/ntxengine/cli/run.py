"""Running one coroutine as a process: the event loop, and what SIGINT and SIGTERM do.

The first signal cancels the coroutine, which cleans up in reverse order.  After it the signals have their normal
effect again, so that a second one ends the process at once, whatever it is doing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import closing
from typing import TypeVar

import click

from ntxengine.cli.errors import Interrupted
from ntxengine.cli.limits import make_room
from ntxengine.cli.loop import loop_factory
from ntxengine.cli.streams import hurry, without_waiting
from ntxengine.errors import Cancelled

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(coroutine: Coroutine[object, object, T]) -> T:
    """Run `coroutine` to its end and return its result.

    Errors: whatever it raises; Interrupted if a signal ended it; MachineError if there is no room to begin.
    """
    watched = _watched(coroutine)
    # Closed when it cannot even begin: Python complains of a coroutine that was never awaited.
    with closing(coroutine), closing(watched):
        make_room()
        with without_waiting(), asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(watched)


async def _watched(coroutine: Coroutine[object, object, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(coroutine)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        _restore(loop)
        click.echo(f"ntx: {number.name}: stopping and cleaning up; once more to stop at once", err=True)
        hurry()
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except (asyncio.CancelledError, Cancelled) as exc:
        if not received:
            raise
        text = f"interrupted by {received[0].name}: everything that was started is stopped and cleaned up"
        raise Interrupted(text, signal_number=received[0]) from exc
    finally:
        _restore(loop)


def _restore(loop: asyncio.AbstractEventLoop) -> None:
    """Give the signals the effect that they have without us: they end the process."""
    for number in SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
