"""What a file looks like: the marks and the names of disk images, to warn a person who names one, and for nothing else.

A guest writes the first bytes of its disk, and an image can name any file of this machine: nothing is ever opened as an
image because it looks like one.  A new format is a row in the table.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImageFormat:
    """A format of disk images.

    `marks` are bytes at an offset, behind the end if that is negative; one is enough.  `suffixes` are in small letters.
    `qemu_name` is how qemu calls it.
    """

    name: str
    qemu_name: str
    suffixes: tuple[str, ...]
    marks: tuple[tuple[int, bytes], ...]


IMAGE_FORMATS = (
    ImageFormat("qcow2", "qcow2", (".qcow2", ".qcow"), ((0, b"QFI\xfb"),)),
    ImageFormat("qed", "qed", (".qed",), ((0, b"QED\0"),)),
    ImageFormat(
        "vmdk",
        "vmdk",
        (".vmdk",),
        # sparse, of ESX, of ESX as snapshots have it since 6.5, and the text that names the files of a disk
        ((0, b"KDMV"), (0, b"COWD"), (0, b"\xbe\xba\xfe\xca\0\0\0\0"), (0, b"# Disk DescriptorFile")),
    ),
    ImageFormat("vhdx", "vhdx", (".vhdx", ".avhdx"), ((0, b"vhdxfile"),)),
    # One of a fixed size is the disk, and a footer; old ones are a byte shorter.
    ImageFormat("vhd", "vpc", (".vhd", ".avhd"), ((0, b"conectix"), (-512, b"conectix"), (-511, b"conectix"))),
    ImageFormat("vdi", "vdi", (".vdi",), ((64, b"\x7f\x10\xda\xbe"),)),
    ImageFormat("parallels", "parallels", (".hdd", ".hds"), ((0, b"WithoutFreeSpace"), (0, b"WithouFreSpacExt"))),
    ImageFormat("dmg", "dmg", (".dmg",), ((-512, b"koly"),)),
)
"""Not LUKS, nor a file system: those are what a disk holds."""


def looks_like(path: Path, formats: Sequence[ImageFormat] = IMAGE_FORMATS) -> ImageFormat | None:
    """Return the format whose mark a file or a block device has; None also for what cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # opening it for its bytes says why
    try:
        if not stat.S_ISREG(mode := os.fstat(fd).st_mode) and not stat.S_ISBLK(mode):
            return None
        size = os.lseek(fd, 0, os.SEEK_END)
        return next((format for format in formats if any(_has(fd, size, mark) for mark in format.marks)), None)
    except OSError:
        return None
    finally:
        os.close(fd)


def named_like(path: Path, formats: Sequence[ImageFormat] = IMAGE_FORMATS) -> ImageFormat | None:
    """Return the format whose suffix the name of a file has."""
    return next((format for format in formats if path.suffix.lower() in format.suffixes), None)


def _has(fd: int, size: int, mark: tuple[int, bytes]) -> bool:
    offset, wanted = mark
    at = offset if offset >= 0 else size + offset
    return at >= 0 and os.pread(fd, len(wanted), at) == wanted
