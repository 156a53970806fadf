"""What the events of a run make of its record, and when that is written."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from ntxengine.agent.records import MAX_WARNINGS, Run
from ntxengine.events import (
    Event,
    GenerationCommitted,
    Planned,
    PointCommitted,
    Progressed,
    Stage,
    StageBegan,
    StartedOver,
    Warned,
)

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 5.0
"""Progress alone is written no more often."""

_PAST_PRISM = frozenset({Stage.COPY, Stage.COMMIT})


class Recorder:
    """Keeps the record of one run: give it as `on_event`.  `save` is called with what is to be written."""

    def __init__(
        self,
        run: Run,
        save: Callable[[Run], None],
        *,
        monotonic: Callable[[], float],
        on_past_prism: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_past_prism` is called when all that Prism had to do for the copy is done."""
        self.run = run
        self._save = save
        self._monotonic = monotonic
        self._on_past_prism = on_past_prism
        self._saved_at = monotonic()
        self._disks: dict[str, tuple[int, int]] = {}
        self._warnings = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progressed):
            self._progress(event)
        elif isinstance(event, StageBegan):
            if event.stage in _PAST_PRISM:
                self._on_past_prism()
            if event.stage.value != self.run.stage:
                self.change(stage=event.stage.value)
        elif isinstance(event, Planned):
            self.change(
                parent_id=event.parent_id or "",
                consistency=event.consistency,
                consistency_reason=event.consistency_reason,
            )
        elif isinstance(event, PointCommitted):
            self.change(is_committed=True, point_id=event.point_id)
        elif isinstance(event, GenerationCommitted):
            self.change(is_committed=True, replica_id=event.replica_id, generation=event.generation)
        elif isinstance(event, Warned | StartedOver):
            self._warn(event.text if isinstance(event, Warned) else f"begun anew with a full point: {event.reason}")

    def change(self, **fields: Any) -> Run:
        """Change the record, and write it."""
        self.run = dataclasses.replace(self.run, **fields)
        self._saved_at = self._monotonic()
        self._save(self.run)
        return self.run

    def _progress(self, event: Progressed) -> None:
        if event.stage != Stage.COPY:
            return
        self._disks[event.disk_id] = (event.bytes_done, event.bytes_total)
        if self._monotonic() < self._saved_at + PROGRESS_INTERVAL_S:
            return
        done, total = (sum(amounts) for amounts in zip(*self._disks.values(), strict=True))
        self.change(bytes_done=done, bytes_total=total, bottleneck=event.bottleneck)

    def _warn(self, text: str) -> None:
        self._warnings += 1
        log.warning("job %r, VM %r: %s", self.run.job, self.run.vm_name, text)
        if self._warnings <= MAX_WARNINGS:
            self.change(warnings=(*self.run.warnings, text[:1000]))
