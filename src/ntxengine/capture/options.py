"""How to capture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal, get_args

from ntxengine.capture.audit import Audit
from ntxengine.changes import ON_LOST_TRACKING, OnLostTracking
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.retry import MAX_PATIENCE_S, Patience
from ntxengine.errors import OptionsError
from ntxengine.images.choice import ImageOptions
from ntxengine.prism.models import VssBackup

ConsistencyChoice = Literal["auto", "app", "crash"]
CONSISTENCY_CHOICES: tuple[ConsistencyChoice, ...] = get_args(ConsistencyChoice)
VSS_BACKUPS: tuple[VssBackup, ...] = get_args(VssBackup)

DEFAULT_EXPIRY = timedelta(days=7)
"""How long the cluster keeps a recovery point of ours if we never come back."""

MIN_EXPIRY = timedelta(hours=1)
"""Less could end while the first capture is still reading from it."""

DEFAULT_MAX_CHAIN = 100
"""Enough for a quarter of a year of daily captures."""


@dataclass(frozen=True)
class CaptureOptions:
    """Everything that a caller may choose.

    `consistency`: `app` fails where Guest Tools cannot, `auto` takes what is possible and says which.
    `vss`: what VSS makes of a Windows guest; after a full backup databases cut their logs.
    `on_lost_tracking`: what to do when the changed regions since the previous point cannot be had.
    `copy`: per disk; what it leaves open begins as the tier does that a disk lies on.  `parallel`: disks at a time.
    `captures_at_once`: how many captures of this process share one budget of buffers.
    `verify`: read back what was written, every block touched (a whole disk when it was captured in full), and compare
    with the digests of what was read.
    `retry_for_s`: how long to go on after a lost connection without getting any further; 0: not at all.
    `resume`: a capture that was interrupted is gone on with, if that is possible.
    `full`, `scan`: for those who distrust tracking: a point that stands alone, or read everything and send what
    differs; `reason` is recorded.  `max_chain`: images on top of each other before a full point is made; half of what
    qemu can open at the repository's path is the most, whatever is given.
    `volume_groups`: the volume groups that are attached to the VM are captured with it.
    `audit`: how much of what the cluster reports as unchanged, or zero, is read and compared; a disk of which it told
    the wrong thing is read as a whole.
    `image`: what writes the images, and whether they are compressed; a disk whose storage container compresses is not,
    unless `compress_again`.
    """

    consistency: ConsistencyChoice = "auto"
    vss: VssBackup = "copy"
    on_lost_tracking: OnLostTracking = "scan"
    copy: CopyOptions = field(default_factory=CopyOptions)
    verify: bool = True
    retry_for_s: float = Patience.seconds
    expiry: timedelta = DEFAULT_EXPIRY
    parallel: int = 4
    captures_at_once: int = 1
    resume: bool = True
    full: bool = False
    scan: bool = False
    reason: str = ""
    max_chain: int = DEFAULT_MAX_CHAIN
    audit: Audit | None = None
    volume_groups: bool = True
    image: ImageOptions = field(default_factory=ImageOptions)
    compress_again: bool = False

    def __post_init__(self) -> None:
        if self.consistency not in CONSISTENCY_CHOICES:
            raise OptionsError(f"consistency {self.consistency!r}: must be one of {', '.join(CONSISTENCY_CHOICES)}")
        if self.vss not in VSS_BACKUPS:
            raise OptionsError(f"vss {self.vss!r}: must be one of {', '.join(VSS_BACKUPS)}")
        if self.on_lost_tracking not in ON_LOST_TRACKING:
            known = ", ".join(ON_LOST_TRACKING)
            raise OptionsError(f"on lost tracking {self.on_lost_tracking!r}: must be one of {known}")
        if self.expiry < MIN_EXPIRY:
            raise OptionsError(f"expiry {self.expiry}: a recovery point must live at least {MIN_EXPIRY}")
        if not 0 <= self.retry_for_s <= MAX_PATIENCE_S:
            raise OptionsError(f"retry for {self.retry_for_s} s: from 0 to {MAX_PATIENCE_S} s")
        if self.parallel < 1:
            raise OptionsError(f"parallel {self.parallel}: at least one disk at a time")
        if self.full and self.scan:
            raise OptionsError("a full point and a scan were asked for: choose one")
        if self.reason and not (self.full or self.scan):
            raise OptionsError("a reason was given, and neither a full point nor a scan was asked for")
        if self.compress_again and not self.image.zstd_level:
            raise OptionsError("disks were to be compressed again, and no compression was asked for")
        if self.max_chain < 1:
            raise OptionsError(f"max chain {self.max_chain}: at least one image")

    def image_in(self, *, is_compressed: bool | None) -> ImageOptions:
        """Return how the image of a disk is written whose storage container compresses it, or not (None: unknown)."""
        if is_compressed and not self.compress_again:
            return replace(self.image, zstd_level=0)
        return self.image
