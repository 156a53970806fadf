"""What killed captures left in a repository, found and removed, while nobody captures the VM that it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from ntxengine.errors import LockedError, NtxError
from ntxengine.files import durable
from ntxengine.repository import interrupted, layout, strays
from ntxengine.repository.interrupted import Interrupted
from ntxengine.repository.lock import VmLock
from ntxengine.repository.scan import vm_folders

Result = TypeVar("Result")


@dataclass
class Leftovers:
    """What was removed, or would be, and what could not be.

    `unfinished`: VM id and point id; `kept` are captures that can be gone on with.  `removed`: the same of points whose
    removal was interrupted.  `maps`: cluster maps in points, of images that are gone.  `files`: of interrupted changes
    to the repository itself.  `empty_folders`: of VMs.
    """

    unfinished: list[tuple[str, str]] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)
    maps: list[Path] = field(default_factory=list)
    kept: list[Interrupted] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    empty_folders: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def sweep(root: Path, *, dry_run: bool = False, is_kept: Callable[[Interrupted], bool] = lambda _: False) -> Leftovers:
    """Remove what is left in a repository.  What cannot be removed does not keep the rest from being so.

    `is_kept` says of which interrupted captures nothing is removed.
    Blocks: for as long as it takes to remove images.
    """
    found = Leftovers()

    def remove(folder: Path) -> list[Path]:
        kept = [each for each in interrupted.find(folder) if is_kept(each)]
        found.kept += kept
        paths = [each.path for each in kept]
        if dry_run:
            return [each for each in strays.unfinished(folder) if each not in paths]
        return strays.remove_unfinished(folder, kept=paths)

    for folder in vm_folders(root):
        if strays.unfinished(folder):
            removed = _while_locked(folder, remove, found.problems) or []
            found.unfinished += [(folder.name, layout.unfinished_id(each)) for each in removed]
        if strays.rests(folder) or strays.maps(folder):
            removed = _while_locked(folder, partial(_remove_rests, dry_run=dry_run), found.problems) or []
            rests = [each for each in removed if each.parent == folder]
            found.removed += [(folder.name, each.name.removeprefix(layout.REMOVED_PREFIX)) for each in rests]
            found.maps += [each for each in removed if each.parent != folder]
    files = sweep_files(root, dry_run=dry_run)
    found.files += files.files
    found.problems += files.problems
    for folder in strays.empty_folders(root):
        # What holds nothing but its lock goes with it.
        if dry_run or _while_locked(folder, bool, found.problems):
            found.empty_folders.append(folder)
    return found


def _remove_rests(folder: Path, *, dry_run: bool) -> list[Path]:
    """Remove what interrupted removals of points, and of images, have left in the folder of a VM, which is locked."""
    found = [*strays.rests(folder), *strays.maps(folder)]
    for path in [] if dry_run else found:
        durable.remove_tree(path)
    return found


def sweep_files(folder: Path, *, dry_run: bool = False) -> Leftovers:
    """Remove what interrupted creations of a repository left in any folder, and interrupted changes to its files."""
    found = Leftovers()
    for path in strays.markers(folder):
        try:
            if not dry_run:
                path.unlink(missing_ok=True)
            found.files.append(path)
        except OSError as exc:
            found.problems.append(f"{path}: {exc.strerror}")
    return found


def _while_locked(folder: Path, action: Callable[[Path], Result], problems: list[str]) -> Result | None:
    """Do something with the folder of a VM while nobody else does; None if somebody does, or it cannot be done."""
    try:
        with VmLock(folder, f"VM {folder.name}"):
            return action(folder)
    except LockedError:
        return None
    except NtxError as exc:
        problems.append(f"VM {folder.name}: {exc}")
        return None
