"""Who is told what a capture does.  The CLI shows it; a service may count it; by default it is logged."""

from __future__ import annotations

import logging
from typing import Protocol

from ntxengine.dataplane.copy import Progress

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Called from the event loop, often: must be quick and must not raise."""

    def stage(self, name: str, detail: str) -> None:
        """A step of the workflow begins: `freeze`, `changes`, `attach`, `copy`, `verify`, `commit`, `release`, `undo`.

        `detail` says which disk or point, for people.
        """
        ...

    def disk_progress(self, disk_id: str, progress: Progress) -> None:
        """How far the copy, later the read-back, of a disk is."""
        ...

    def warning(self, text: str) -> None:
        """We degrade and go on; `text` says to what, why, and what it costs."""
        ...


class LogObserver:
    """Writes to the log what a person would want to find there."""

    def stage(self, name: str, detail: str) -> None:
        log.info("%s: %s", name, detail)

    def disk_progress(self, disk_id: str, progress: Progress) -> None:
        """Too often for a log."""

    def warning(self, text: str) -> None:
        log.warning("%s", text)
