"""What a person can choose of how an image is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ntxengine.errors import OptionsError

WriterName = Literal["own", "qemu"]
WRITER_NAMES: tuple[WriterName, ...] = get_args(WriterName)

MAX_ZSTD_LEVEL = 19
"""As NTX_MAX_ZSTD_LEVEL, csrc/ntx_image.h."""


@dataclass(frozen=True)
class ImageOptions:
    """How a QCOW2 image is written.

    `writer`: the core, or a qemu-nbd.  `zstd_level`: clusters that become smaller are stored compressed, by the core
    alone; 0: none is.
    """

    writer: WriterName = "own"
    zstd_level: int = 0

    def __post_init__(self) -> None:
        if self.writer not in WRITER_NAMES:
            raise OptionsError(f"writer {self.writer!r}: must be one of {', '.join(WRITER_NAMES)}")
        if not 0 <= self.zstd_level <= MAX_ZSTD_LEVEL:
            raise OptionsError(f"zstd level {self.zstd_level}: 1 to {MAX_ZSTD_LEVEL}")
        if self.zstd_level and self.writer != "own":
            raise OptionsError(f"writer {self.writer}: only our own writer compresses")

    @property
    def format(self) -> str:
        """The row of WRITERS (create.py)."""
        return "qcow2" if self.writer == "own" else "qcow2-by-qemu"

    @property
    def compression(self) -> str:
        """How it is compressed, as a person says it; "" for not at all."""
        return f"zstd:{self.zstd_level}" if self.zstd_level else ""


OWN = ImageOptions()


def zstd_level_of(text: str) -> int:
    """Return the level of `zstd` or `zstd:LEVEL`, 1 where none is said.  Errors: OptionsError."""
    name, colon, level = text.partition(":")
    if name != "zstd" or (colon and not (level.isascii() and level.isdigit())):
        raise OptionsError(f"{text!r}: write zstd, or zstd:LEVEL")
    found = int(level) if colon else 1
    if not 1 <= found <= MAX_ZSTD_LEVEL:
        raise OptionsError(f"{text!r}: the levels of zstd are 1 to {MAX_ZSTD_LEVEL}")
    return found
