"""From options to the objects of a use case: a connected cluster, the VM that a name means, an attacher."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ntxengine.attach import Attacher, ContainerMount, HotAdd
from ntxengine.attach.hotadd import DEVICE_DIR
from ntxengine.cli.options import Function, PrismOptions
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.text import printable
from ntxengine.concurrency.completion import call_with_timeout
from ntxengine.errors import NotFoundError
from ntxengine.ids import is_uuid
from ntxengine.prism import Cluster, Endpoint, Secret, connect
from ntxengine.prism.models import Prism, Vm

FOLDER_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Login:
    """Everything that a connection needs; with --api auto the one endpoint is given as both."""

    central: Endpoint | None
    element: Endpoint | None


def login(options: PrismOptions, screen: Screen) -> Login:
    """Read the password, or ask for it, before an event loop runs: within one, no signal would end the waiting."""
    if options.insecure:
        screen.warning("--insecure: anybody between here and Prism can read the password and change the answers")
    endpoint = Endpoint(
        url=options.url,
        username=options.username,
        password=Secret(options.password(screen)),
        ca_file=None if options.ca_file is None else str(options.ca_file),
        insecure=options.insecure,
        timeout_s=options.timeout_s,
    )
    return Login(None if options.api == "v3" else endpoint, None if options.api == "v4" else endpoint)


@asynccontextmanager
async def connected(prism_login: Login) -> AsyncIterator[Cluster]:
    """Connect to a cluster; disconnect on exit."""
    async with await connect(prism_login.central, prism_login.element) as cluster:
        yield cluster


async def find_vm(prism: Prism, name: str) -> Vm:
    """Return the VM with this UUID or name.

    Errors: NotFoundError if there is none; a usage error that lists the UUIDs if several have the name.
    """
    if is_uuid(name):
        return await prism.vm(name.lower())
    return vm_named(await prism.vms(), name)


def vm_named(vms: Iterable[Vm], name: str) -> Vm:
    """Return the one of `vms` that has this name.  Errors: as find_vm."""
    found = [vm for vm in vms if vm.name == name]
    if not found:
        raise NotFoundError(f"no VM is named {name!r}: `ntx vms` lists those that this account may see")
    if len(found) > 1:
        ids = ", ".join(vm.id for vm in found)
        raise click.UsageError(f"{len(found)} VMs are named {printable(name)!r}: name one by its UUID: {ids}")
    return found[0]


@dataclass(frozen=True)
class AttachOptions:
    """How the bytes of a recovery point become readable here."""

    worker: str | None
    device_dir: Path
    containers: Path | None

    async def attacher(self, cluster: Cluster) -> Attacher:
        """Return the attacher that fits: mounted containers where Prism tells paths, else hot-add.

        Errors: a usage error if what was given does not do; as find_vm for the worker VM.
        """
        if self.containers is not None and (cluster.findings.tells_paths or self.worker is None):
            await _check_folder(self.containers, "--containers")
            return ContainerMount(self.containers)
        if self.worker is None:
            raise click.UsageError(
                "no way to the disks: give --worker VM (this machine, as a VM of the cluster), or on Prism v3 "
                "--containers DIR (where its storage containers are mounted)"
            )
        worker = await find_vm(cluster.prism, self.worker)
        if self.device_dir != DEVICE_DIR:  # that one appears with the first device
            await _check_folder(self.device_dir, "--device-dir")
        return HotAdd(cluster.prism, worker.id, device_dir=self.device_dir)


async def _check_folder(path: Path, option: str) -> None:
    """Refuse what is no directory.  A dead mount that does not answer is for the attacher to tell."""
    with suppress(TimeoutError):
        if not await call_with_timeout(path.is_dir, FOLDER_TIMEOUT_S):
            raise click.BadParameter(f"{printable(str(path))}: there is no such directory", param_hint=option)


def attach_options(function: Function) -> Function:
    """Add --worker, --device-dir and --containers; pass `attach`."""

    @click.option(
        "--worker",
        envvar="NTX_WORKER",
        show_envvar=True,
        metavar="VM",
        help="This machine, as a VM of the cluster: disks are hot-added to it.",
    )
    @click.option(
        "--device-dir",
        type=FOLDER,
        default=DEVICE_DIR,
        show_default=True,
        envvar="NTX_DEVICE_DIR",
        show_envvar=True,
        help="Where hot-added disks appear.",
    )
    @click.option(
        "--containers",
        type=FOLDER,
        envvar="NTX_CONTAINERS",
        show_envvar=True,
        metavar="DIR",
        help="Directory that has each storage container mounted under its name (v3).",
    )
    @functools.wraps(function)
    def with_attach(*args: Any, worker: str | None, device_dir: Path, containers: Path | None, **kwargs: Any) -> Any:
        return function(*args, attach=AttachOptions(worker, device_dir, containers), **kwargs)

    return with_attach
