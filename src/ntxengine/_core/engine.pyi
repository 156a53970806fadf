from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from ntxengine._core.device import Device
from ntxengine._core.limiter import Limiter
from ntxengine._core.limits import Limits

PACE_REASONS: dict[int, str]

def memory_of(source: Device, target: Device, limits: Limits, *, disk_size: int, bytes_expected: int) -> int: ...

@final
class Job:
    def __new__(
        cls,
        source: Device,
        target: Device,
        limits: Limits,
        *,
        disk_size: int,
        target_is_zero: bool,
        reads_all: bool = False,
        bytes_expected: int,
        makes_checkpoints: bool = False,
        digest_fd: int,
        digest_offset: int,
        digests_are_zero: bool,
        reference_fd: int,
        reference_offset: int,
        reference_blocks: int,
        limiter: Limiter | None = None,
        keep: Any = None,
    ) -> Self: ...
    def start(self) -> None: ...
    def feed(self, extents: NDArray[np.void]) -> int: ...
    def feed_end(self) -> None: ...
    def fileno(self) -> int: ...
    def progress(self) -> dict[str, int]: ...
    def refusal(self) -> str | None: ...
    def checkpoint(self) -> bool: ...
    def cancel(self) -> None: ...
    def join(self) -> None: ...
    def close(self) -> None: ...
