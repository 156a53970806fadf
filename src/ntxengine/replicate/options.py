"""How to keep a replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from ntxengine.capture import CaptureOptions
from ntxengine.errors import OptionsError
from ntxengine.units import MIB

DEFAULT_SAMPLE = 64 * MIB


@dataclass(frozen=True)
class ReplicateOptions:
    """`capture` has what a cycle takes of a capture: consistency, vss, on_lost_tracking, copy, retry_for_s, expiry,
    parallel, scan, full, reason, audit, volume_groups.  `sample_bytes` of a disk are read back in each cycle: of what
    was written, and as much of the rest; 0: nothing.  `verify_all`: all that was written is read back.
    `cuts_over`: nothing follows this cycle.  `keeps_history`: no older generation goes, however few the target keeps.
    """

    capture: CaptureOptions = field(default_factory=CaptureOptions)
    sample_bytes: int = DEFAULT_SAMPLE
    verify_all: bool = False
    cuts_over: bool = False
    keeps_history: bool = False

    def __post_init__(self) -> None:
        if self.sample_bytes < 0:
            raise OptionsError(f"sample {self.sample_bytes}: at least nothing")
