"""How the bytes of a disk recovery point become readable on this machine.

base.py           what an attacher is, and the checks that all share
container.py      storage containers mounted here (NFS): the snapshot's file
hotadd.py         this machine is a VM of the cluster: a clone is hot-added to it
hotadd_clones.py  such clones, found again: those that were left, and those that are no disks of the VM that has them
nfs.py            exports of storage containers, read by a qemu-nbd
iscsi.py          volume groups with clones of disks, logged in to (portal.py, initiator.py, iscsiadm.py)
through_ssh.py    the way to a target behind an ssh server
device.py         a block device that is waited for, as hot-add and iscsiadm do
first.py          the first of several that can serve a VM
tried.py          what was found out by trying, kept for a minute
export.py         what a qemu-nbd reads over the network for us
"""

from __future__ import annotations

from ntxengine.attach.base import (
    AUTO,
    DEVICE_DIR,
    YES,
    Attached,
    Attacher,
    Attachers,
    AttachOptions,
    History,
    Leftover,
    Leftovers,
    Locality,
    Trace,
    Verdict,
)
from ntxengine.attach.container import ContainerMount
from ntxengine.attach.first import FirstThatCan
from ntxengine.attach.hotadd import HotAdd
from ntxengine.attach.iscsi import Iscsi
from ntxengine.attach.nfs import NfsExport
from ntxengine.errors import NtxError, OptionsError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import Vm

__all__ = [
    "ATTACHERS",
    "AUTO",
    "DEVICE_DIR",
    "YES",
    "AttachOptions",
    "Attached",
    "Attacher",
    "Attachers",
    "ContainerMount",
    "FirstThatCan",
    "History",
    "HotAdd",
    "Iscsi",
    "Leftover",
    "Leftovers",
    "Locality",
    "NfsExport",
    "Trace",
    "Verdict",
    "choose_attacher",
    "find_added_disks",
    "find_leftovers",
    "source_names",
    "title_of",
]

ATTACHERS: tuple[type[Attacher], ...] = (ContainerMount, HotAdd, NfsExport, Iscsi)
"""Every way to the bytes there is, in the order in which AUTO tries them."""


def source_names() -> tuple[str, ...]:
    """Return what `AttachOptions.source` may be."""
    return (AUTO, *(kind.name for kind in ATTACHERS))


def title_of(name: str) -> str:
    """Return what people call a way that was recorded, perhaps by a newer ntx."""
    return next((kind.title for kind in ATTACHERS if kind.name == name), name)


async def choose_attacher(prism: Prism, findings: Findings, options: AttachOptions) -> Attachers:
    """Return the attacher that is named; or the one that can serve this Prism.

    Where several can, each VM gets the first of them that can serve it (`Attacher.for_vm`).
    Errors: OptionsError, with the reason of each that cannot; what was told to one that could is wrong.
    """
    candidates: list[Attacher] = []
    reasons: list[str] = []
    for kind in _kinds(options):
        attacher = kind(prism, options)
        if verdict := await attacher.can_serve(findings):
            candidates.append(attacher)
        else:
            reasons.append(f"{kind.title}: {verdict.reason}")
    if len(candidates) > 1:
        return FirstThatCan(candidates, reasons)
    if candidates:
        return candidates[0]
    if options.source != AUTO:
        raise OptionsError(f"--source {options.source}: {reasons[0].partition(': ')[2]}")
    raise OptionsError(f"no way to the disks: {'; '.join(reasons)}")


def _kinds(options: AttachOptions) -> tuple[type[Attacher], ...]:
    """Return the ways that may be used.  Errors: OptionsError if there is none of that name, or with that gateway."""
    source = options.source
    named = tuple(kind for kind in ATTACHERS if source in (AUTO, kind.name))
    if not named:
        raise OptionsError(f"--source {source}: there is no such way: one of {', '.join(source_names())}")
    found = tuple(kind for kind in named if kind.can_tunnel or options.gateway is None)
    if not found:
        ways = ", ".join(kind.name for kind in ATTACHERS if kind.can_tunnel)
        raise OptionsError(f"--tunnel: {named[0].title} does not go through a tunnel, only: {ways}")
    return found


async def find_leftovers(prism: Prism, options: AttachOptions, trace: Trace) -> Leftovers:
    """Return what a killed capture left attached: in the way that is recorded, or any if none is.

    A way that is not asked wants no rights for it.
    """
    kinds = [kind for kind in ATTACHERS if trace.source in ("", kind.name)]
    if not kinds:
        unknown = NtxError(f"what it left attached is not known here: it was read by {trace.source!r}; use a newer ntx")
        return Leftovers(unseen=((f"capture {trace.name}", unknown),))
    each = [await kind(prism, options).leftovers(trace) for kind in kinds]
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
