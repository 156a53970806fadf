"""How the bytes of a disk recovery point become readable on this machine.

base.py           what an attacher is, and the checks that all share
container.py      storage containers mounted here (NFS): the snapshot's file
hotadd.py         this machine is a VM of the cluster: a clone is hot-added to it
hotadd_clones.py  such clones, found again: those that were left, and those that are no disks of the VM that has them
"""

from __future__ import annotations

from ntxengine.attach.base import (
    DEVICE_DIR,
    YES,
    Attached,
    Attacher,
    AttachOptions,
    History,
    Leftover,
    Leftovers,
    Locality,
    Trace,
    Verdict,
)
from ntxengine.attach.container import ContainerMount
from ntxengine.attach.hotadd import HotAdd
from ntxengine.errors import OptionsError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import DiskPoint, Vm

__all__ = [
    "ATTACHERS",
    "DEVICE_DIR",
    "YES",
    "AttachOptions",
    "Attached",
    "Attacher",
    "ContainerMount",
    "History",
    "HotAdd",
    "Leftover",
    "Leftovers",
    "Locality",
    "Trace",
    "Verdict",
    "choose_attacher",
    "find_added_disks",
    "find_leftovers",
]

ATTACHERS: tuple[type[Attacher], ...] = (ContainerMount, HotAdd)
"""Every way to the bytes there is, the preferred one first."""


async def choose_attacher(
    prism: Prism, findings: Findings, options: AttachOptions, disk_point: DiskPoint | None = None
) -> Attacher:
    """Return the first attacher that can serve this Prism and, if one is given, this disk point.

    Errors: OptionsError, with the reason of each that cannot; what was told to the one that could is wrong.
    """
    reasons = []
    for kind in ATTACHERS:
        attacher = kind(prism, options)
        verdict = await attacher.can_serve(findings, disk_point)
        if verdict:
            return attacher
        reasons.append(f"{kind.name}: {verdict.reason}")
    raise OptionsError(f"no way to the disks: {'; '.join(reasons)}")


async def find_leftovers(prism: Prism, options: AttachOptions, trace: Trace) -> Leftovers:
    """Return what a killed capture left attached, in whatever way."""
    each = [await kind(prism, options).leftovers(trace) for kind in ATTACHERS]
    return Leftovers(
        found=tuple(leftover for leftovers in each for leftover in leftovers.found),
        unseen=tuple(unseen for leftovers in each for unseen in leftovers.unseen),
    )


async def find_added_disks(prism: Prism, vm: Vm, history: History) -> dict[str, str]:
    """Return what to say of each disk of `vm` that a capture added to it, by disk id.  Errors: PrismError."""
    found: dict[str, str] = {}
    for kind in ATTACHERS:
        found |= await kind(prism, AttachOptions()).added_disks(vm, history)
    return found
