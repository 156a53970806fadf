"""From the name that a person types to a VM: the points say what it was called when they were made.

a UUID                                     that VM
the name of one VM, now or once            that VM
the names of several VMs, now or once      refused: a name that has moved from one VM to another tells nothing
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.repository import layout
from ntxengine.repository.point import Point


@dataclass(frozen=True)
class NamedVm:
    """A VM.  `name` is what it is called at its newest point that can be read; its id if none can."""

    id: str
    name: str


def find_vm(points: Iterable[Point], unreadable: Iterable[Path], name: str) -> NamedVm:
    """Return the VM that `name` means, by its points, oldest first, and the folders of those that cannot be read.

    Errors: NotFoundError; OptionsError (several VMs, named with their UUIDs).
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    for point in points:
        names[point.vm_id].append(point.vm_name)
    known = {**{layout.vm_of(folder): [layout.vm_of(folder)] for folder in unreadable}, **names}
    wanted = [name.lower()] if name.lower() in known else [vm_id for vm_id, called in names.items() if name in called]
    if not wanted:
        raise NotFoundError(f"no point of a VM named {name[:80]!r}: `ntx points` lists what there is")
    if len(wanted) > 1:
        each = ", ".join(f"{vm_id} (now {names[vm_id][-1][:80]!r})" for vm_id in sorted(wanted))
        raise OptionsError(f"{len(wanted)} VMs are or were named {name[:80]!r}: name one by its UUID: {each}")
    return NamedVm(wanted[0], known[wanted[0]][-1])
