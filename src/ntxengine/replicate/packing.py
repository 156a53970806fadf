"""How far a target is that makes one file of all disks."""

from __future__ import annotations

import time
from collections.abc import Callable

from ntxengine.events import OnEvent, Progressed, Stage, Subject


def packed(emit: OnEvent, subject: Subject, bytes_total: int) -> Callable[[int], None]:
    """Return what tells how many of all bytes were read, in events of a stage."""
    began_s = time.monotonic()

    def tell(bytes_done: int) -> None:
        emit(
            Progressed(
                stage=Stage.PACK,
                bytes_total=bytes_total,
                bytes_done=bytes_done,
                bytes_read=bytes_done,
                seconds=time.monotonic() - began_s,
                bottleneck="",
                bottleneck_share=0.0,
                is_flushing=False,
                **subject,
            )
        )

    return tell
