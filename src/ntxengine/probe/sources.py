"""The ways to the bytes: which can be taken, and which one would be.

--source names one     it fails where something lacks; the others are not looked at
else                   the first that can be taken is; those that cannot are skipped, with the reason
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import shlex
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from types import MappingProxyType

from ntxengine.attach import ATTACHERS, AUTO, YES, Attacher, AttachOptions, nfs, portal
from ntxengine.attach.container import container_problem
from ntxengine.concurrency.parallel import map_limited
from ntxengine.errors import OptionsError
from ntxengine.prism.cluster import nfs_server_of
from ntxengine.prism.http.endpoint import authority
from ntxengine.prism.models import Container
from ntxengine.probe.check import Check, Context
from ntxengine.probe.model import Fact, Facts, Result, blocked, failed, ok, skipped, warning
from ntxengine.probe.words import AGAIN

STARGATE_PORT = 3205
AS_IT_SAYS = "as it says; docs/first-run.md has it step by step"
MAX_SHOWN = 6
MOUNT = ("mount", "-t", "nfs", "-o", "ro,vers=3,nolock,proto=tcp")
LOOKS_AT_ONCE = 32
"""Each dead mount holds up a thread."""
FOLDER_TIMEOUT_S = 10.0


class Way(Check):
    """One way to the bytes: whether a capture could take it."""

    limit_s = 60.0

    def __init__(self, kind: type[Attacher], *, needs: tuple[str, ...], after: tuple[str, ...]) -> None:
        super().__init__("source", needs=needs, after=after)
        self.kind = kind
        self.name = kind.name

    async def run(self, context: Context) -> Result:
        assert context.prism is not None
        wanted = context.options.attach.source
        if wanted not in (AUTO, self.kind.name):
            return skipped(f"not taken: --source {wanted}")
        worker = context.lines.get("worker.found")
        if self.kind.name == "hotadd" and worker is not None and worker.result.status in ("failed", "skipped"):
            return blocked(worker.because or worker.key)
        attacher = self.kind(context.prism, attach_options(context))
        try:
            verdict = await attacher.can_serve(context.prism.findings)
        except OptionsError as exc:  # whatever else can be used, a capture ends here
            return failed(str(exc), "correct it, or leave it out")
        if not verdict:
            return self._unusable(context, verdict.reason, AS_IT_SAYS)
        result = await self._looked(context, attacher)
        if result.status in ("ok", "warning"):
            context.attachers[self.name] = attacher
        return result

    async def _looked(self, context: Context, attacher: Attacher) -> Result:
        """Look at what the way needs, and then ask the attacher, which really tries."""
        look = LOOKS.get(self.kind.name)
        found = ok("nothing more to look at") if look is None else await look(context)
        verdict = YES if context.vm is None else await attacher.can_serve_vm(context.vm)
        if context.vm is not None and verdict and found.status == "failed":
            return warning(f"it works, and yet: {found.text}", found.remedy, **found.facts)
        if found.status == "failed":
            return self._unusable(context, found.text, found.remedy, found.facts)
        if not verdict:
            return self._unusable(context, verdict.reason, AS_IT_SAYS)
        return found

    def _unusable(
        self, context: Context, text: str, remedy: str, facts: Mapping[str, Fact] = MappingProxyType({})
    ) -> Result:
        """A way that was asked for has failed; of the others one is enough."""
        if context.options.attach.source == self.kind.name:
            return failed(text, remedy, **facts)
        return Result("skipped", f"cannot be taken: {text}", facts=facts)


class Chosen(Check):
    """Which way to the bytes a capture would take: the first that can be taken."""

    name = "chosen"

    async def run(self, context: Context) -> Result:
        ways = [(kind, context.lines[f"source.{kind.name}"]) for kind in ATTACHERS]
        if wrong := [line for _, line in ways if line.result.status == "failed"]:
            return blocked(wrong[0].key)
        for kind in ATTACHERS:
            if attacher := context.attachers.get(kind.name):
                context.attacher = attacher
                return ok(f"{attacher.title} (--source {attacher.name})", source=attacher.name)
        if because := next((line.because for _, line in ways if line.because), ""):
            return blocked(because)
        if unknown := [line for _, line in ways if line.result.facts.get("is_known") is False]:
            return skipped(f"{unknown[0].key} is not known: {unknown[0].result.text}")
        reasons = "; ".join(f"{kind.title}: {line.result.text}" for kind, line in ways)
        return failed(
            f"no way to the disks: {reasons}",
            "run ntx in a VM of the cluster and name it (--worker VM), or see docs/first-run.md for the other ways",
        )


async def look_at_mounts(context: Context) -> Result:
    """Look whether the storage containers that matter are mounted.  Those of a VM are its attacher's to look at."""
    root = context.options.attach.containers
    assert root is not None
    if context.vm is None:
        names = sorted({each.name for each in await _containers(context)})
    else:
        names = sorted({disk.container_name for disk in context.vm.disks if disk.container_name})
    if not names:
        remedy = AGAIN if context.vm is not None else f"name a VM, or {AGAIN}"
        return warning("no storage container is told: whether they are mounted is not known", remedy)
    problems: dict[str, str] = {}
    if context.vm is None:
        told = await map_limited(
            names, lambda name: container_problem(root, name, timeout_s=FOLDER_TIMEOUT_S), at_once=LOOKS_AT_ONCE
        )
        problems = {name: problem for name, problem in zip(names, told, strict=True) if problem}
    mounted = [name for name in names if name not in problems]
    facts: Facts = {"containers_mounted": mounted}
    if not problems:
        more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
        return ok(f"{len(names)} containers can be read below {root}: {', '.join(names[:MAX_SHOWN])}{more}", **facts)
    said = "; ".join(f"{name!r}: {problem}" for name, problem in islice(problems.items(), MAX_SHOWN))
    first = next(iter(problems))
    remedy = shlex.join([*MOUNT, f"CLUSTER:/{first}", f"{root}/{first}"])
    if not mounted:
        return failed(f"no storage container can be read: {said}", remedy, **facts)
    return warning(f"cannot be read, or has no disk yet: {said}", remedy, **facts)


async def look_at_worker(context: Context) -> Result:
    """The worker VM has a check of its own."""
    assert context.worker is not None
    return ok(f"disks are hot-added to {context.worker.name!r}, and appear in {context.options.attach.device_dir}")


async def look_at_nfs(context: Context) -> Result:
    """Look whether the NFS server of the cluster answers, and whether its allow-list has this machine."""
    assert context.prism is not None
    server = await _nfs_server(context)
    if not server:
        return failed("no address of an NFS server is known", "give one: --nfs-server ADDRESS of the cluster or a CVM")
    facts: Facts = {"nfs_server": server}
    route = await context.machine.connect(server, nfs.PORT)
    if route.answer != "open":
        return failed(
            f"no connection to {authority(server, nfs.PORT)}: {route.cause}",
            f"open {nfs.PORTS} from this machine to each controller VM; and "
            + _how_to_allow((context.our_addresses or ["the address of this machine"])[0]),
            **facts,
        )
    refused = [each for each in await _containers(context) if not is_allowed(route.source, _allowed(each, context))]
    if refused:
        names = ", ".join(each.name for each in refused[:MAX_SHOWN])
        return failed(
            f"the allow-list of {names} lacks {route.source}, as which the cluster sees this machine",
            _how_to_allow(route.source),
            **facts,
        )
    mapper, mount = [await context.machine.connect(server, port) for port in (nfs.PORTMAPPER_PORT, nfs.MOUNT_PORT)]
    if mapper.answer != "open":
        return warning(
            f"{authority(server, nfs.PORT)} answers, {authority(server, nfs.PORTMAPPER_PORT)} does not: {mapper.cause}",
            f"open TCP {nfs.PORTMAPPER_PORT} too: libnfs asks there for the port of the mount service",
            **facts,
        )
    if mount.answer == "silent":  # a server that has it elsewhere refuses here
        return warning(
            f"{authority(server, nfs.PORT)} answers, {authority(server, nfs.MOUNT_PORT)} does not: {mount.cause}",
            f"open {nfs.PORTS}: the mount service answers at one of them",
            **facts,
        )
    ports = f"{nfs.PORT} and {nfs.PORTMAPPER_PORT}"
    return ok(f"{server} answers on {ports}; no allow-list is known to lack {route.source}", **facts)


async def look_at_iscsi(context: Context) -> Result:
    """Look whether the cluster has a data services address, and whether its ports answer."""
    assert context.prism is not None
    given = context.options.attach.data_services
    address, port = "", portal.PORT
    if given:
        named = portal.parse_portal(given, "--data-services")
        address, port = named.host, named.port
    if not address:
        if not context.clusters:
            return skipped("no cluster is known to ask for its data services IP: name a VM", is_known=False)
        told = [await context.prism.data_services(each.id) for each in context.clusters]
        address = next(filter(None, told), "")
    if not address:
        return failed(
            "the cluster has no data services IP",
            "set one: Prism Element > Settings > Cluster Details > iSCSI Data Services IP; or --data-services ADDRESS",
        )
    at = authority(address, port)
    facts: Facts = {"data_services": at}
    route = await context.machine.connect(address, port)
    if route.answer != "open":
        return failed(
            f"no connection to the data services at {at}: {route.cause}",
            "is that the iSCSI Data Services IP (Prism Element > Settings > Cluster Details)? Nothing listens there"
            if route.answer == "closed"
            else f"open TCP {port}, and {STARGATE_PORT} to each controller VM, from here in the firewalls between",
            **facts,
        )
    cvms = await _controller_vms(context)
    routes = await asyncio.gather(*(context.machine.connect(cvm, STARGATE_PORT) for cvm in cvms))
    silent = [cvm for cvm, route in zip(cvms, routes, strict=True) if route.answer == "silent"]
    if silent:
        return warning(
            f"{at} answers, and leads to controller VMs whose TCP {STARGATE_PORT} does not:"
            f" {', '.join(silent[:MAX_SHOWN])}",
            f"open TCP {STARGATE_PORT} from this machine to each controller VM: a session is redirected there",
            **facts,
        )
    return ok(f"data services at {at} answer", **facts)


LOOKS: dict[str, Callable[[Context], Awaitable[Result]]] = {
    "path": look_at_mounts,
    "hotadd": look_at_worker,
    "nfs": look_at_nfs,
    "iscsi": look_at_iscsi,
}
"""What is looked at of a way beside what its attacher looks at."""


def attach_options(context: Context) -> AttachOptions:
    """Return what an attacher is told, with the worker VM as it was found."""
    worker_id = "" if context.worker is None else context.worker.id
    return dataclasses.replace(context.options.attach, worker_id=worker_id)


def is_allowed(address: str, allowed: tuple[str, ...] | None) -> bool:
    """Return whether an allow-list has an address; one that is not told, or cannot be read, is not held against it."""
    if allowed is None:
        return True
    try:
        ours = ipaddress.ip_address(address)
    except ValueError:
        return True
    for each in allowed:
        try:
            if ours in ipaddress.ip_network(each, strict=False):
                return True
        except ValueError:
            return True  # a host name, perhaps ours
    return False


def _how_to_allow(address: str) -> str:
    return (
        "Prism Element > Storage > container > Update > Advanced Settings > Filesystem Whitelists: add"
        f" {nfs.as_listed(address)}"
    )


def _allowed(container: Container, context: Context) -> tuple[str, ...] | None:
    if not container.inherits_nfs:
        return container.nfs_allowed
    of_cluster = next((each for each in context.clusters if each.id == container.cluster_id), None)
    return container.nfs_allowed or (None if of_cluster is None else of_cluster.nfs_allowed)


async def _containers(context: Context) -> list[Container]:
    """Return the containers that matter: those of the VM's disks, or else all that are of users."""
    assert context.prism is not None
    found = await context.prism.containers()
    if context.vm is None:
        return [each for each in found if not each.is_internal]
    wanted = {disk.container_id for disk in context.vm.disks}
    return [each for each in found if each.id in wanted]


async def _nfs_server(context: Context) -> str:
    """Return the server that a capture would ask; without a VM one that it may, "" if none is known."""
    assert context.prism is not None
    if named := nfs.server_named(context.options.attach):
        return named
    if context.vm is not None:
        return await nfs_server_of(context.prism, context.vm)
    known = [*await _controller_vms(context), *(each.address for each in context.clusters)]
    return next(filter(None, known), "")


async def _controller_vms(context: Context) -> list[str]:
    assert context.prism is not None
    hosts = [host for each in context.clusters if each.id for host in await context.prism.hosts(each.id)]
    return [host.cvm_address for host in hosts if host.cvm_address][:16]
