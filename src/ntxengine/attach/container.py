"""Storage containers mounted here: the file of a snapshot is below the mount, under the path that Prism gave.

The path comes from outside and is not trusted: whatever it holds, nothing outside the mount is ever opened.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from ntxengine.attach.base import (
    YES,
    Attached,
    Attacher,
    AttachOptions,
    Verdict,
    check_folder,
    check_size,
    file_location,
    is_plain_name,
    judge_containers,
    readable_size,
)
from ntxengine.attach.tried import Tried
from ntxengine.concurrency.completion import call_with_timeout
from ntxengine.errors import AttachError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import DiskPoint, Vm

LIVE_FOLDER = ".acropolis"
"""Every container that holds a disk has it: the disks' files are below."""

LOOK_TIMEOUT_S = 30.0
"""A cluster whose allow-list lacks this machine often just does not answer (nutanix-api.md, fact 10)."""

_NO_ROOT = "no directory of mounted storage containers was given (--containers DIR, Prism v3)"


class ContainerMount(Attacher):
    """The cluster's containers, mounted (read-only, please) as directories of one: `containers/<container>/...`."""

    name = "path"
    title = "mounted containers"

    def __init__(self, prism: Prism, options: AttachOptions, *, timeout_s: float = LOOK_TIMEOUT_S) -> None:
        super().__init__(prism, options)
        self._timeout_s = timeout_s
        self._tried: Tried[str] = Tried()

    async def can_serve(self, findings: Findings) -> Verdict:
        """Say whether there are mounts, and paths to follow below them."""
        if self.options.containers is None:
            return Verdict(_NO_ROOT)
        if not findings.tells_paths:
            return Verdict(
                f"--containers {self.options.containers} is of no use: this Prism tells no paths on the cluster's "
                f"storage (v4 does not)"
            )
        await check_folder(self.options.containers, "--containers")
        return YES

    async def can_serve_vm(self, vm: Vm) -> Verdict:
        """Say whether the container of each disk, where Prism names it, is mounted and can be read."""
        look = partial(container_problem, self._root, timeout_s=self._timeout_s)
        return await judge_containers(vm, lambda name: self._tried.get(name, partial(look, name)))

    @property
    def _root(self) -> Path:
        if self.options.containers is None:
            raise AttachError(_NO_ROOT)
        return self.options.containers

    @asynccontextmanager
    async def attach(self, disk_point: DiskPoint, size: int) -> AsyncIterator[Attached]:
        """Give the file of the disk.  There is nothing to take away."""
        root, relative = self._root, checked_path(disk_point)
        try:
            path, found = await call_with_timeout(lambda: _look(root, relative), self._timeout_s)
        except TimeoutError as error:
            raise AttachError(
                f"cannot read {root / relative}: no answer in {self._timeout_s:g} s; is the container mounted, "
                f"and is this machine in its allow-list?"
            ) from error
        except OSError as error:
            raise AttachError(
                f"cannot read {root / relative}: {error.strerror}; is the container "
                f"{relative.parts[0]!r} mounted at {root / relative.parts[0]}?"
            ) from error
        check_size(path, found, size)
        yield Attached(file_location(path))


async def container_problem(root: Path, name: str, *, timeout_s: float = LOOK_TIMEOUT_S) -> str:
    """Return why a storage container cannot be read below `root`, "" if it can.

    A folder alone may be one without a mount.
    """
    if not is_plain_name(name):
        return "its name cannot be that of a folder"
    place = root / name
    try:
        found = await call_with_timeout(lambda: _is_container(root, place), timeout_s)
    except TimeoutError:
        return f"no answer from {place} in {timeout_s:g} s; is this machine in the container's allow-list?"
    except AttachError as error:
        return str(error)
    except OSError as error:
        return f"cannot read {place}: {error.strerror}; mount it there, and let this machine be in its allow-list"
    return "" if found else f"{place} is empty or something else: mount the container there (NFS, read-only)"


def checked_path(disk_point: DiskPoint) -> PurePosixPath:
    """Return the path of the disk's file below the mounts, relative, of plain names only.

    Errors: AttachError if there is none, or one that nobody should follow.
    """
    text = disk_point.path
    if text is None:
        raise AttachError(
            f"the disk recovery point {disk_point.id} has no path on the cluster's storage (Prism v4 gives none): use "
            f"hot-add (--worker) or iSCSI"
        )
    names = text.split("/")
    is_plain = len(names) >= 3 and names[0] == "" and all(map(is_plain_name, names[1:]))
    if not is_plain:
        raise AttachError(
            f"Prism gave {text!r} as the path of disk recovery point {disk_point.id}: not an absolute path of plain "
            f"names, so it is not followed"
        )
    return PurePosixPath(*names[1:])


def _look(root: Path, relative: PurePosixPath) -> tuple[Path, int]:
    """Return where the file really is, and its size."""
    top = root.resolve(strict=True)
    path = (top / relative).resolve(strict=True)
    if not path.is_relative_to(top):
        raise AttachError(f"{root / relative} leads to {path}, outside of {top}: not followed")
    if not path.is_file():
        raise AttachError(f"cannot read {path}: it is not a regular file")
    return path, readable_size(path)


def _is_container(root: Path, place: Path) -> bool:
    """Return whether the files of live disks are there, as they are in a container.

    Errors: OSError; AttachError for a link, which is not followed when a disk is read.
    """
    if not place.resolve(strict=True).is_relative_to(root.resolve(strict=True)):
        raise AttachError(f"{place} leads to {place.resolve()}, outside of {root}: not followed")
    os.listdir(place)
    return (place / LIVE_FOLDER).is_dir()
