"""What others read in VMDKs: libvmdk, which knows nothing of qemu, and qemu-img, which knows nothing of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pyvmdk

_CHUNK = 1024**2


def libvmdk_reads(path: Path) -> bytes:
    """Return all bytes of the disk that a VMDK is, read by libvmdk: a descriptor's extents, or an image of one file."""
    handle = pyvmdk.handle()
    handle.open(str(path))
    try:
        handle.open_extent_data_files()
        left, parts = handle.get_media_size(), []
        while left:
            parts.append(handle.read_buffer(min(left, _CHUNK)))
            assert parts[-1]
            left -= len(parts[-1])
        return b"".join(parts)
    finally:
        handle.close()


def qemu_info(path: Path, format: str) -> dict[str, Any]:
    """Return what qemu-img says of an image."""
    told = subprocess.run(
        ["qemu-img", "info", "--output=json", "-f", format, path], check=True, capture_output=True, text=True
    )
    found = json.loads(told.stdout)
    assert isinstance(found, dict)
    return found


def qemu_equal(path: Path, format: str, raw: Path) -> None:
    """Demand that qemu reads in an image just what is in a raw file, and that both are of one size."""
    done = subprocess.run(
        ["qemu-img", "compare", "-f", format, "-F", "raw", path, raw], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert qemu_info(path, format)["virtual-size"] == raw.stat().st_size
