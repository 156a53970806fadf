"""By what a copy that goes on is known to be the same: of both ends what a path does not say.

A file has its inode and the time when it was last changed.  A device or an export has neither: its bytes are looked at,
by whoever goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import xxhash

from ntxengine.copying.request import CopyRequest
from ntxengine.dataplane.extents import ExtentFile
from ntxengine.dataplane.location import Location, parse
from ntxengine.errors import OptionsError
from ntxengine.images.endpoints import images_of

NEW_FILE = "new file"
MANIFEST = "manifest"
TARGET = "target"
KIND_OF_TARGET = "kind of the target"
INODE_OF_TARGET = "inode of the target"
SIZE_OF_TARGET = "size of the target"

OF_THE_OPEN_TARGET = (INODE_OF_TARGET, SIZE_OF_TARGET)
"""What is known of the target only when it is there."""


def of_request(request: CopyRequest, manifest: Path, extents: ExtentFile | None) -> dict[str, str]:
    """Return what has to be the same before either end is looked into.  Blocks.  Errors: OptionsError."""
    source, target = parse(request.source), parse(request.target)
    found = {
        "source": _name(source),
        "kind of the source": _kind(source),
        "format of the source": request.said.format or "raw",
        TARGET: _name(target),
        "format of the target": request.target_format or "raw",
        MANIFEST: str(manifest.absolute()),
    }
    if request.target_format == "qcow2":
        found["writer of the target"] = f"{request.image.writer} {request.image.compression}".strip()
    if found["kind of the source"] == "file":
        found |= _of_files(images_of(request.source, request.said))
    if extents is not None:
        found["extents"] = _digest_of(extents)
    return found


def kind_of_target(request: CopyRequest) -> str:
    """Return what kind of target it is for a copy that begins."""
    location = parse(request.target)
    if location.kind == "file" and not os.path.lexists(location.path):
        return NEW_FILE
    return _kind(location)


def inode_of(path: Path) -> str:
    """Return the inode of a file; "" if there is none."""
    try:
        return str(os.lstat(path).st_ino)
    except OSError:
        return ""


def _name(location: Location) -> str:
    return os.path.abspath(location.path) if location.kind == "file" else location.text


def _kind(location: Location) -> str:
    is_device = location.kind == "file" and Path(location.path).is_block_device()
    return "block device" if is_device else location.kind


def _of_files(paths: Iterable[Path]) -> dict[str, str]:
    inodes, changed = [], []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as exc:
            raise OptionsError(f"{path}: {exc.strerror}") from exc
        inodes.append(str(status.st_ino))
        changed.append(str(status.st_mtime_ns))
    return {"inode of the source": " ".join(inodes), "mtime of the source": " ".join(changed)}


def _digest_of(extents: ExtentFile) -> str:
    state = xxhash.xxh3_128()
    for window in extents.windows():
        state.update(window.tobytes())
    return state.hexdigest()
