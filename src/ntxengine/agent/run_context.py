"""Which run a line of the log is about: whoever logs during a run, in whatever room, need not know.

A context variable, so that a task that a run starts has it too, and so do threads that asyncio.to_thread starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ntxengine.agent.records import Run

_RUN: ContextVar[Run | None] = ContextVar("ntx_run", default=None)


@contextmanager
def within(run: Run) -> Iterator[None]:
    """Have what is logged in this context, and in tasks that are created in it, be about a run."""
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


def current_run() -> Run | None:
    """Return the run that this is about, None if it is about none."""
    return _RUN.get()
