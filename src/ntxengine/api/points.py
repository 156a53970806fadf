"""Points by the name of their VM.

What is a package already has another name here: `ntxengine.restore`, `ntxengine.prune` and `ntxengine.sync` are.
"""

from __future__ import annotations

from ntxengine.errors import NotFoundError
from ntxengine.prune import prune as prune_vms
from ntxengine.repository import Point, Repository
from ntxengine.restore import restore as restore_point
from ntxengine.sync import sync as sync_vms

__all__ = ["newest_point", "prune_vms", "restore_point", "sync_vms"]


async def newest_point(repository: Repository, vm: str) -> Point:
    """Return the newest point of a VM, named by UUID, or by what it is or was called.

    Errors: NotFoundError (no such VM, no point), OptionsError (several VMs had the name), RepositoryError (damaged).
    """
    found = await repository.find_vm(vm)
    point = await repository.newest(found.id)
    if point is None:
        raise NotFoundError(f"{repository.path}: VM {found.name!r} has no point")
    return point
