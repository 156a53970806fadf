"""Running one coroutine as a process: the event loop, and what SIGHUP, SIGINT and SIGTERM do.

The first signal cancels the coroutine, which cleans up in reverse order.  A second one ends the process at once,
whatever it is doing; ntxengine.cli.signals has the rules.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Sequence
from contextlib import closing
from typing import Any, TypeVar

from ntxengine.cli.errors import Interrupted
from ntxengine.cli.limits import make_room
from ntxengine.cli.loop import loop_factory
from ntxengine.cli.messages import messages
from ntxengine.cli.signals import heeded
from ntxengine.cli.streams import hurry, without_waiting
from ntxengine.errors import Cancelled

T = TypeVar("T")

log = logging.getLogger(__name__)


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
    numbers = heeded()

    def stop(number: signal.Signals) -> None:
        received.append(number)
        if len(received) > 1:  # a further hang-up: the others are not ours any more
            return
        _give_back(loop, [number for number in numbers if number != signal.SIGHUP])
        # Said now: when the second one comes, nobody is left to say it.
        text = f"{number.name}: stopping and cleaning up; once more to stop at once, and leave the rest to `ntx sweep`"
        messages.say("warning", f"ntx: {text}")
        hurry()
        loop.set_exception_handler(_echo)
        task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except (asyncio.CancelledError, Cancelled) as exc:
        if not received:
            raise
        text = f"interrupted by {received[0].name}: stopped, and cleaned up but for what warnings name"
        raise Interrupted(text, signal_number=received[0]) from exc
    except Exception as exc:
        if not received:
            raise
        # What failed while it stopped is an echo: whoever told us to stop is told that we did.
        text = f"interrupted by {received[0].name}, and while it stopped: {exc}"
        raise Interrupted(text, signal_number=received[0]) from exc
    finally:
        _give_back(loop, numbers)


def _echo(_loop: asyncio.AbstractEventLoop, said: dict[str, Any]) -> None:
    """Keep from a person what connections say that are torn down: uvloop names each that had something to send."""
    log.debug("while stopping: %s", said.get("message"), exc_info=said.get("exception"))


def _give_back(loop: asyncio.AbstractEventLoop, numbers: Sequence[signal.Signals]) -> None:
    """Give the signals the effect that they have without us: they end the process."""
    for number in numbers:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
