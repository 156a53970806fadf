"""The descriptor of a VMDK: the text that says what its files hold.  The disk itself is a flat file beside it.

| kind | createType       | its extent                 | written by                 |
|------|------------------|----------------------------|----------------------------|
| vmfs | vmfs             | RW n VMFS "x-flat.vmdk"    | ESXi, on each kind of datastore |
| flat | monolithicFlat   | RW n FLAT "x-flat.vmdk" 0  | VMware Workstation         |

Sources: VMware Virtual Disks, Virtual Disk Format 1.1; what qemu-img and libvmdk read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from ntxengine.errors import OptionsError
from ntxengine.units import GIB, TIB, format_size

FlatKind = Literal["vmfs", "flat"]
FLAT_KINDS: tuple[FlatKind, ...] = get_args(FlatKind)

Adapter = Literal["ide", "lsilogic"]
"""What a disk is connected by, as far as a descriptor tells it: `lsilogic` stands for all but IDE."""

SECTOR = 512
MAX_SIZE = 62 * TIB
NO_PARENT = 0xFFFFFFFF
_HARDWARE_VERSION = 14
_SAFE_NAME = re.compile(r'[^"\x00-\x1f\x7f/\\]+')
_MAX_IDE_CYLINDERS = 16383


@dataclass(frozen=True)
class Geometry:
    """Cylinders, heads and sectors, as guests that are old enough ask for them."""

    cylinders: int
    heads: int
    sectors: int


def geometry_of(size: int, adapter: Adapter) -> Geometry:
    """Return the geometry that VMware gives a disk of `size` bytes."""
    if adapter == "ide":
        heads, sectors = 16, 63
    elif size < GIB:
        heads, sectors = 64, 32
    elif size < 2 * GIB:
        heads, sectors = 128, 32
    else:
        heads, sectors = 255, 63
    cylinders = max(1, size // SECTOR // (heads * sectors))
    return Geometry(min(cylinders, _MAX_IDE_CYLINDERS) if adapter == "ide" else cylinders, heads, sectors)


def check_size(size: int, what: str) -> None:
    """Refuse a disk that no VMDK can be.  Errors: OptionsError."""
    if not 0 < size <= MAX_SIZE or size % SECTOR:
        raise OptionsError(
            f"{what}: has {size} bytes, and a VMDK has whole sectors of {SECTOR} bytes, up to {format_size(MAX_SIZE)}: "
            f"resize it, or leave it out"
        )


def flat_descriptor(kind: FlatKind, size: int, flat_name: str, *, content_id: int, adapter: Adapter) -> bytes:
    """Return the descriptor of a disk of `size` bytes, whose bytes are in the file `flat_name` beside it.

    `content_id` is another whenever the bytes are: who keeps something on top of the disk sees that it changed.
    Errors: OptionsError: no VMDK can have this size, or its file this name.
    """
    check_size(size, flat_name)
    sectors = size // SECTOR
    extent = f'RW {sectors} VMFS "{flat_name}"' if kind == "vmfs" else f'RW {sectors} FLAT "{flat_name}" 0'
    create_type = "vmfs" if kind == "vmfs" else "monolithicFlat"
    return _descriptor(create_type, extent, flat_name, size, content_id, adapter)


def stream_descriptor(size: int, name: str, *, content_id: int, adapter: Adapter) -> bytes:
    """Return the descriptor that is inside a streamOptimized image called `name`.  Errors: as flat_descriptor."""
    check_size(size, name)
    extent = f'RW {size // SECTOR} SPARSE "{name}"'
    return _descriptor("streamOptimized", extent, name, size, content_id, adapter)


def _descriptor(create_type: str, extent: str, name: str, size: int, content_id: int, adapter: Adapter) -> bytes:
    if not _SAFE_NAME.fullmatch(name):
        raise OptionsError(f"{name!r}: cannot be named in a VMDK: no quotes, slashes or control characters")
    if not 0 <= content_id < NO_PARENT:
        raise OptionsError(f"content id {content_id:#x}: a VMDK has 0 to {NO_PARENT - 1:#x}")
    geometry = geometry_of(size, adapter)
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        'encoding="UTF-8"',
        f"CID={content_id:08x}",
        f"parentCID={NO_PARENT:08x}",
        f'createType="{create_type}"',
        "",
        "# Extent description",
        extent,
        "",
        "# The Disk Data Base",
        "#DDB",
        "",
        f'ddb.virtualHWVersion = "{_HARDWARE_VERSION}"',
        f'ddb.geometry.cylinders = "{geometry.cylinders}"',
        f'ddb.geometry.heads = "{geometry.heads}"',
        f'ddb.geometry.sectors = "{geometry.sectors}"',
        f'ddb.adapterType = "{adapter}"',
    ]
    return "".join(f"{line}\n" for line in lines).encode()
