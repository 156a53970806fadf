"""What a caller may choose of a restore."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ntxengine.dataplane.bandwidth import Bandwidth, Rate
from ntxengine.dataplane.options import FLUSH_TIMEOUT_S, CopyOptions
from ntxengine.dataplane.retry import MAX_PATIENCE_S, Patience
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from ntxengine.errors import OptionsError
from ntxengine.images.choice import OWN, ImageOptions

RestoreFormat = Literal["raw", "qcow2"]
RESTORE_FORMATS: tuple[RestoreFormat, ...] = get_args(RestoreFormat)


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore.

    `format` of the files that are made; None: raw, but QCOW2 for a target that is named `.qcow2`.  `overwrite`: replace
    files that exist, and write to devices and servers.  `verify`: read every restored disk back, too, and compare it
    with the digests that the capture recorded.  `check` off: write what is there, compared with nothing, to save what
    can be saved.  `parallel`: disks at a time.  `bandwidth` (of all disks together) and `flush_timeout_s`: as
    CopyOptions has them.  `image`: how QCOW2 images are written.

    `in_place`: read what is there, and write only the blocks that differ from the point; of files, too, which are not
    made then.

    `keep_going`: write all that is good, and report what is not.

    Of devices and servers: `target_is_zero`: they read as zero, zeros need not be written.  `connection`: how to reach
    servers; `retry_for_s`: for how long to try again after a lost connection, as Patience has it.
    """

    format: RestoreFormat | None = None
    overwrite: bool = False
    in_place: bool = False
    keep_going: bool = False
    verify: bool = False
    check: bool = True
    parallel: int = 4
    bandwidth: Rate | Bandwidth = 0
    flush_timeout_s: float = FLUSH_TIMEOUT_S
    image: ImageOptions = field(default_factory=ImageOptions)
    target_is_zero: bool = False
    connection: ConnectionOptions = PLAIN
    retry_for_s: float = Patience.seconds

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in RESTORE_FORMATS:
            raise OptionsError(f"format {self.format!r}: must be one of {', '.join(RESTORE_FORMATS)}")
        if self.format == "raw":
            self.check_image(has_image=False)
        if self.verify and not self.check:
            raise OptionsError("reading back to verify, and comparing nothing: the two contradict each other")
        if self.keep_going and not self.check:
            raise OptionsError(
                "going on where something is damaged, and comparing nothing: the two contradict each other"
            )
        if self.in_place:
            self._check_in_place()
        if self.parallel < 1:
            raise OptionsError(f"parallel {self.parallel}: at least one disk at a time")
        if not 0 <= self.retry_for_s <= MAX_PATIENCE_S:
            raise OptionsError(f"retry for {self.retry_for_s} s: from 0 to {MAX_PATIENCE_S} s")
        # Refuses what is no limit, before a folder is made.
        copying = CopyOptions(bandwidth=self.bandwidth, flush_timeout_s=self.flush_timeout_s)
        object.__setattr__(self, "bandwidth", copying.bandwidth)  # one, whatever is restored with these options

    def _check_in_place(self) -> None:
        for is_against, what in (
            (self.format == "qcow2", "format qcow2: only the bytes of a disk can be compared with what is there"),
            (not self.check, "comparing nothing: what differs is found by the digests"),
            (self.target_is_zero, "a target that is zero: what is there is read"),
        ):
            if is_against:
                raise OptionsError(f"restoring in place, and {what}")

    @property
    def is_strict(self) -> bool:
        """Whether the point has to be whole, and what tells of it is what was written."""
        return self.check and not self.keep_going

    @property
    def may_replace(self) -> bool:
        """Whether what is there may be written over."""
        return self.overwrite or self.in_place

    def check_image(self, *, has_image: bool) -> None:
        """Refuse what was said of an image where none is made.  Errors: OptionsError."""
        if self.image != OWN and not has_image:
            raise OptionsError("a writer or a compression was given, and they are of QCOW2 images: choose that format")
