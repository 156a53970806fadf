"""A chain with as many images as it may have is made shorter before the next point goes on top of it.

From what the repository holds, without a byte read from the cluster: what is forgotten is taken over, and where that is
not enough the newest point is made to stand alone.  Where it cannot be, the new point is a full one.
"""

from __future__ import annotations

from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.parent import most_images
from ntxengine.errors import NtxError
from ntxengine.events import Emitter, Warned
from ntxengine.prism.models import Vm
from ntxengine.repository import Repository, VmLock


async def shorten_chain(repository: Repository, lock: VmLock, vm: Vm, options: CaptureOptions, emit: Emitter) -> None:
    """Make room for one more image on top of the newest point of a VM, if there is none.

    Never fails: where it cannot be done, a warning says why, and the capture that follows makes a full point.
    """
    if options.full or options.max_chain < 2 or any(each.resume for each in await repository.interrupted(vm.id)):
        return
    health = await repository.health_of_newest(vm.id)
    newest = health.points[-1] if health.points else None
    limit, _ = most_images(repository, vm.id.lower(), options)
    if newest is None or health.problem(newest) or health.depth(newest) < limit or limit < 2:
        return
    from ntxengine.prune import shorten  # what reads and writes images is loaded by the few captures that need it

    try:
        await shorten(repository, lock, newest, below=limit, on_event=emit)
    except NtxError as error:
        emit.raise_failure()
        emit(
            Warned(
                vm_id=vm.id,
                vm_name=vm.name,
                text=f"VM {vm.name!r}: the chain of point {newest.id} could not be made shorter: {error}",
            )
        )
