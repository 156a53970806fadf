"""What a copy says of itself: while it runs, and when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum


@dataclass(frozen=True)
class Progress:
    """Counters of a running copy, in bytes.  `bytes_done` of `bytes_total` is what a progress bar shows.

    `bytes_stored` is what the target keeps of `bytes_sent`: the same, unless it compresses, has some of it already, or
    keeps nothing (`null:`).
    `stage_seconds` is time of the copying threads, added up over them: reading or waiting for the `source`, looking
    at the bytes (`digest`), compressing them and looking at what came out (`packing`), sending to or waiting for the
    `target`, and held by the rate `limit`.
    `is_flushing`: everything was sent, and the target makes sure of it.
    """

    bytes_total: int
    bytes_done: int
    bytes_read: int
    bytes_sent: int
    bytes_stored: int
    bytes_zeroed: int
    bytes_skipped: int
    bytes_unchanged: int
    seconds: float
    stage_seconds: dict[str, float]
    is_flushing: bool

    @property
    def bottleneck(self) -> str:
        """The stage that the threads spent most time on: `source`, `digest`, `packing`, `target` or `limit`; `` if
        none."""
        name = max(self.stage_seconds, key=lambda stage: self.stage_seconds[stage])
        return name if self.stage_seconds[name] > 0 else ""

    @property
    def bottleneck_share(self) -> float:
        """Its share of the threads' time, 0..1."""
        spent = sum(self.stage_seconds.values())
        return self.stage_seconds[self.bottleneck] / spent if spent else 0.0


class Pace(Enum):
    """How the number of requests in flight came about: the names of enum ntx_pace_why, csrc/ntx.h."""

    PINNED = "as asked for"
    BEGAN = "as begun: it was not short of answers"
    NO_GAIN = "as begun: more were tried and were not faster"
    LATE = "raised: the first answer was late"
    RAISED = "raised: more were faster"
    LOWERED = "lowered: fewer were as fast"
    TRIED = "another number was being tried"


@dataclass(frozen=True)
class CopyReport(Progress):
    """What a finished copy did.  `cpu_seconds` is of its threads.

    `connections`, and `in_flight` of each, are those that it ended with; `pace` says why these.
    `connections_refused` are those that it wanted and could not have; `refused` is why the first of them could not.
    `memory_bytes` is what it had reserved, of which it may have taken less.
    `retries` are requests asked again in another way: zeroing that the target refused for its length, or at all.
    """

    cpu_seconds: float
    connections: int
    connections_refused: int
    refused: str | None
    request_size: int
    in_flight: int
    pace: Pace
    retries: int
    is_flushed: bool
    memory_bytes: int

    def after(self, failed: Sequence[CopyReport]) -> CopyReport:
        """Return what this copy and those that failed before it did together."""
        both = [self, *failed]
        return replace(
            self,
            bytes_done=sum(each.bytes_done for each in both),
            bytes_read=sum(each.bytes_read for each in both),
            bytes_sent=sum(each.bytes_sent for each in both),
            bytes_stored=sum(each.bytes_stored for each in both),
            bytes_zeroed=sum(each.bytes_zeroed for each in both),
            bytes_skipped=sum(each.bytes_skipped for each in both),
            bytes_unchanged=sum(each.bytes_unchanged for each in both),
            seconds=sum(each.seconds for each in both),
            stage_seconds={stage: sum(each.stage_seconds[stage] for each in both) for stage in self.stage_seconds},
            cpu_seconds=sum(each.cpu_seconds for each in both),
            retries=sum(each.retries for each in both),
        )
