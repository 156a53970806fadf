"""What the engine runs on, and what it chose because of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ntxengine._core import kernels


@dataclass(frozen=True)
class EngineInfo:
    """The choices made at run time, each with its reason, and the machine.  `cores` are those we may run on."""

    zero_kernel: str
    zero_kernel_reason: str
    digest_kernel: str
    digest_kernel_reason: str
    xxhash: str
    architecture: str
    cpu_features: tuple[str, ...]
    """Of those that a kernel may ask for."""
    send_by_reference: bool
    """Tried out: memory goes to a unix socket without being copied on this side."""
    read_in_flight: bool
    """Tried out: a block device is read with several requests at once by each thread (io_uring)."""
    kernel: str
    libc: str
    page_size: int
    cores: int


def engine_info() -> EngineInfo:
    """Ask the core and the system."""
    core = kernels.about()
    system = os.uname()
    features = {"sse2": core["has_sse2"], "avx2": core["has_avx2"], "avx512f": core["has_avx512f"]}
    return EngineInfo(
        zero_kernel=core["zero_kernel"],
        zero_kernel_reason=core["zero_reason"],
        digest_kernel=core["digest_kernel"],
        digest_kernel_reason=core["digest_reason"],
        xxhash=_dotted(core["xxhash_version"]),
        architecture=system.machine,
        cpu_features=tuple(name for name, is_there in features.items() if is_there),
        send_by_reference=core["can_send_by_reference"],
        read_in_flight=core["can_read_in_flight"],
        kernel=system.release,
        libc=_libc(),
        page_size=os.sysconf("SC_PAGESIZE"),
        cores=len(os.sched_getaffinity(0)),
    )


def _dotted(version: int) -> str:
    """Return 801 as 0.8.1."""
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (ValueError, OSError):  # not the GNU one
        return "unknown"
