"""A capture that kills itself at the Nth step that touches the repository, for test_kill.py."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ntxengine.files import durable
from ntxengine.repository.catalog import Catalog
from ntxengine.repository.store import PointStore
from tests.repository import builders
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, begin, fill_disk, record_of

SIZE = 256 * 1024
CHANGES = [Write(512, 512, 2), Write(65536, 65536, 0)]
OTHER_CHANGES = [Write(0, 512, 3)]


class Fuse:
    """Burns down by one at every step, before and after it."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def burn(self) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def burning(*args: Any, **kwargs: Any) -> Any:
            self.burn()
            result = function(*args, **kwargs)
            self.burn()
            return result

        return burning


def capture_and_die(path: Path, before: bytes, steps: int) -> None:
    """Run in a process of its own."""
    repository = PointStore.open(path)
    fuse = Fuse(steps)
    for name in ("write_file", "sync", "rename", "make_folder", "remove_tree"):
        setattr(durable, name, fuse.around(getattr(durable, name)))
    builders.make = fuse.around(builders.make)
    Catalog.update = fuse.around(Catalog.update)  # type: ignore[method-assign]
    parent = repository.newest(VM)
    with begin(repository, VM, parent) as unfinished:
        disks = [
            fill_disk(unfinished, DISK, ModelDisk(SIZE, before), CHANGES, "scsi.0"),
            fill_disk(unfinished, OTHER_DISK, ModelDisk(SIZE), OTHER_CHANGES, "scsi.1"),
        ]
        unfinished.commit(record_of(unfinished, disks), vm_config={"name": "db01"})
