"""How to capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, get_args

from ntxengine.changes import ON_LOST_TRACKING, OnLostTracking
from ntxengine.copy import CopyOptions
from ntxengine.errors import OptionsError

ConsistencyChoice = Literal["auto", "app", "crash"]
CONSISTENCY_CHOICES: tuple[ConsistencyChoice, ...] = get_args(ConsistencyChoice)

DEFAULT_EXPIRY = timedelta(days=7)
"""How long the cluster keeps a recovery point of ours if we never come back."""

MIN_EXPIRY = timedelta(hours=1)
"""Less could end while the first capture is still reading from it."""


@dataclass(frozen=True)
class CaptureOptions:
    """Everything that a caller may choose.

    `consistency`: `app` fails where Guest Tools cannot, `auto` takes what is possible and says which.
    `on_lost_tracking`: what to do when the changed regions since the previous point cannot be had.
    `copy`: per disk.  `parallel`: disks at a time.
    `captures_at_once`: how many captures of this process share one budget of buffers.
    `verify`: read back what was written, every block touched (a whole disk when it was captured in full), and compare
    with the digests of what was read.
    """

    consistency: ConsistencyChoice = "auto"
    on_lost_tracking: OnLostTracking = "scan"
    copy: CopyOptions = field(default_factory=CopyOptions)
    verify: bool = True
    expiry: timedelta = DEFAULT_EXPIRY
    parallel: int = 4
    captures_at_once: int = 1

    def __post_init__(self) -> None:
        if self.consistency not in CONSISTENCY_CHOICES:
            raise OptionsError(f"consistency {self.consistency!r}: must be one of {', '.join(CONSISTENCY_CHOICES)}")
        if self.on_lost_tracking not in ON_LOST_TRACKING:
            known = ", ".join(ON_LOST_TRACKING)
            raise OptionsError(f"on lost tracking {self.on_lost_tracking!r}: must be one of {known}")
        if self.expiry < MIN_EXPIRY:
            raise OptionsError(f"expiry {self.expiry}: a recovery point must live at least {MIN_EXPIRY}")
        if self.parallel < 1:
            raise OptionsError(f"parallel {self.parallel}: at least one disk at a time")
