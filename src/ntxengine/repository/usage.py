"""What the folder of a VM takes on its file system, and whose it is: each name is looked at once, no file is opened.

<point id>/disk-*.qcow2   images       <point id>/...   the rest of a point       anything else   other
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.files import durable, free_space
from ntxengine.repository import layout
from ntxengine.repository.repository import Repository

_BLOCK = 512
"""What st_blocks counts in."""


@dataclass(frozen=True)
class PointUsage:
    """Bytes of the file system that the folder of one point takes.

    `bytes_images` of all that are images, also of one that a merge replaced; `bytes_other` is the rest: manifests above
    all.
    """

    bytes_images: int
    bytes_other: int

    @property
    def bytes_own(self) -> int:
        return self.bytes_images + self.bytes_other


@dataclass
class VmUsage:
    """The folders of the points of a VM by their ids, and what is in none of them: of interrupted captures."""

    points: dict[str, PointUsage] = field(default_factory=dict)
    bytes_unfinished: int = 0
    bytes_other: int = 0


def usage_of(vm_folder: Path) -> VmUsage:
    """Return what is in the folder of a VM.  Links are not followed.

    Blocks: one look at each name.
    Errors: RepositoryError if a folder cannot be read.
    """
    found = VmUsage()
    for entry in _entries(vm_folder):
        if not entry.is_dir(follow_symlinks=False):
            found.bytes_other += _size(entry)
        elif layout.is_point_id(entry.name):
            found.points[entry.name] = _point(Path(entry.path))
        elif entry.name.startswith(layout.UNFINISHED_PREFIX):
            found.bytes_unfinished += _tree(Path(entry.path))
        else:
            found.bytes_other += _tree(Path(entry.path))
    return found


async def usage_of_vm(repository: Repository, vm_id: str) -> VmUsage:
    """Return what is in the folder of a VM.  Errors: as usage_of."""
    return await to_thread_joined(usage_of, repository.path / vm_id)


async def file_system_of(repository: Repository) -> tuple[int, int]:
    """Return how many bytes the file system of a repository has free for us, and in all.  Errors: RepositoryError."""

    def look() -> tuple[int, int]:
        try:
            return free_space.free_and_size(repository.path)
        except OSError as exc:
            raise durable.read_error(repository.path, exc) from exc

    return await to_thread_joined(look)


def _point(folder: Path) -> PointUsage:
    images = other = 0
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            other += _tree(Path(entry.path))
        elif entry.name.endswith(".qcow2"):
            images += _size(entry)
        else:
            other += _size(entry)
    return PointUsage(images, other)


def _tree(folder: Path) -> int:
    return sum(
        _tree(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else _size(entry) for entry in _entries(folder)
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what a folder holds; nothing of one that is gone meanwhile."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        return
    except OSError as exc:
        raise durable.read_error(folder, exc) from exc


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    except OSError:  # gone meanwhile
        return 0
