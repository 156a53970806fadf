"""The footer of a VHD of fixed size: 512 bytes behind the disk, which is as it is in a raw file.

| who takes it     | wants of the size                                     |
|------------------|-------------------------------------------------------|
| Azure            | a whole number of MiB, without the footer             |
| Hyper-V, others  | whole sectors; at most 2040 GiB                       |

qemu takes the size from the geometry (CHS), which is smaller, unless the creator is one of a few: it is `win ` here.
Source: Virtual Hard Disk Image Format Specification, version 1.0 (Microsoft, 2006).
"""

from __future__ import annotations

import struct
import uuid
from datetime import UTC, datetime

from ntxengine.errors import OptionsError
from ntxengine.units import GIB, MIB, format_size

FOOTER = 512
SECTOR = 512
MAX_SIZE = 2040 * GIB
MULTIPLE = MIB

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LAYOUT = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_CHECKSUM_AT = 64
_RESERVED_FEATURE, _VERSION_1, _NO_HEADER, _FIXED = 2, 0x00010000, 2**64 - 1, 2
_CREATOR, _CREATOR_VERSION, _CREATOR_HOST = b"win ", 0x000A0000, b"Wi2k"
_MAX_CHS = 65535 * 16 * 255


def rounded_size(size: int, what: str) -> int:
    """Return the size that a disk of `size` bytes has in a VHD that clouds take: the next whole number of MiB.

    Errors: OptionsError: it has no whole sectors, or no VHD can be so large.
    """
    if size <= 0 or size % SECTOR:
        raise OptionsError(f"{what}: has {size} bytes, and a VHD has whole sectors of {SECTOR} bytes: resize it")
    rounded = -(-size // MULTIPLE) * MULTIPLE
    if rounded > MAX_SIZE:
        raise OptionsError(
            f"{what}: has {format_size(size)}, and a VHD at most {format_size(MAX_SIZE)}: leave the disk out, or "
            f"replicate to kvm:DIR"
        )
    return rounded


def geometry_of(size: int) -> tuple[int, int, int]:
    """Return cylinders, heads and sectors for each track, as the specification computes them (its appendix)."""
    total = min(size // SECTOR, _MAX_CHS)
    if total >= 65535 * 16 * 63:
        sectors, heads = 255, 16
        return total // sectors // heads, heads, sectors
    sectors = 17
    tracks = total // sectors
    heads = max(4, -(-tracks // 1024))
    if tracks >= heads * 1024 or heads > 16:
        sectors, heads = 31, 16
        tracks = total // sectors
    if tracks >= heads * 1024:
        sectors, heads = 63, 16
        tracks = total // sectors
    return tracks // heads, heads, sectors


def fixed_footer(size: int, *, unique_id: uuid.UUID, made_at: datetime) -> bytes:
    """Return the footer of a disk of `size` bytes."""
    cylinders, heads, sectors = geometry_of(size)
    seconds = max(0, int((made_at - _EPOCH).total_seconds())) & 0xFFFFFFFF
    footer = bytearray(
        _LAYOUT.pack(
            *(b"conectix", _RESERVED_FEATURE, _VERSION_1, _NO_HEADER, seconds, _CREATOR, _CREATOR_VERSION),
            *(_CREATOR_HOST, size, size, cylinders, heads, sectors, _FIXED, 0, unique_id.bytes, 0),
        )
    )
    struct.pack_into(">I", footer, _CHECKSUM_AT, ~sum(footer) & 0xFFFFFFFF)
    return bytes(footer)
