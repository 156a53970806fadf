"""What is on this machine: programs, and room for what is captured."""

from __future__ import annotations

import os
from pathlib import Path

from ntxengine.concurrency.completion import call_with_timeout
from ntxengine.files.free_space import free_bytes
from ntxengine.images import qemu_img
from ntxengine.probe.check import Check, Context
from ntxengine.probe.model import Facts, Result, failed, ok, warning
from ntxengine.units import GIB, format_size

LITTLE = 10 * GIB
LOOK_TIMEOUT_S = 10.0
"""A network file system may be gone."""


class Programs(Check):
    """The programs that a capture starts are installed."""

    name = "programs"

    async def run(self, context: Context) -> Result:
        found = {name: context.machine.program(name) for name in qemu_img.PROGRAMS}
        missing = [name for name, path in found.items() if path is None]
        facts: Facts = {"programs": [{"name": name, "path": path} for name, path in found.items()]}
        if missing:
            packages = sorted({qemu_img.PROGRAMS[name] for name in missing})
            return failed(f"not installed: {', '.join(missing)}", f"apt install {' '.join(packages)}", **facts)
        return ok(", ".join(path for path in found.values() if path), **facts)


class Room(Check):
    """A capture can write where it is to go, and there is room for it."""

    name = "repository"

    def applies(self, context: Context) -> bool:
        return context.options.repository is not None

    async def run(self, context: Context) -> Result:
        path = context.options.repository
        assert path is not None
        try:
            place, is_folder, may_write, free = await call_with_timeout(lambda: _looked_at(path), LOOK_TIMEOUT_S)
        except TimeoutError:
            return failed(
                f"no answer from {path} within {LOOK_TIMEOUT_S:g} s", "is it a network file system that is gone?"
            )
        if not is_folder:
            return failed(f"{place} is no directory", "name another directory (--to)")
        if not may_write:
            return failed(f"{place} cannot be written by this user", f"give it to this user: sudo chown $USER {place}")
        facts: Facts = {"free_bytes": free}
        new = "" if place == path else " (it will be made)"
        wanted = sum(disk.size for disk in context.vm.disks) if context.vm is not None else LITTLE
        if free < wanted:
            why = f"the VM has disks of {format_size(wanted)}" if context.vm is not None else "that is soon full"
            return warning(
                f"{path}{new} has {format_size(free)} free: {why}",
                "use a larger file system: a first capture takes what is allocated on the disks",
                **facts,
            )
        return ok(f"{path}{new} has {format_size(free)} free", **facts)


def _looked_at(path: Path) -> tuple[Path, bool, bool, int]:
    """Return the folder, or the nearest above it that exists; whether it is one, and may be written; its room."""
    place = next((each for each in (path, *path.absolute().parents) if each.exists()), Path("/"))
    return place, place.is_dir(), os.access(place, os.W_OK | os.X_OK), free_bytes(place)
