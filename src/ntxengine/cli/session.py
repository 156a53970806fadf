"""From options to the objects of a use case: a connected cluster, the VM that a name means, an attacher."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ntxengine.api.cluster import find_vm
from ntxengine.attach import AUTO, DEVICE_DIR, Attachers, AttachOptions, choose_attacher, source_names
from ntxengine.cli.defaults import of_file
from ntxengine.cli.options import Function
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.prism_options import PrismOptions
from ntxengine.cli.values import Given
from ntxengine.prism import Cluster, connect
from ntxengine.prism.reach import Login as Login
from ntxengine.prism.reach import endpoints
from ntxengine.tunnel.options import SshGateway


def login(options: PrismOptions, screen: Screen) -> Login:
    """Read the password, or ask for it, before an event loop runs: within one, no signal would end the waiting."""
    options.warn_of_insecure(screen)
    found = endpoints(options, lambda name: options.read_secret(name, screen))
    configuration = of_file()
    return found if configuration is None else found.within(configuration.snapshot_timeout_s)


@asynccontextmanager
async def connected(prism_login: Login) -> AsyncIterator[Cluster]:
    """Connect to a cluster; disconnect on exit."""
    async with await connect(prism_login.central, prism_login.element) as cluster:
        yield cluster


@dataclass(frozen=True)
class AttachArguments:
    """What was said of the ways to the bytes; `worker` is the name or UUID of a VM.

    `gateway` is set by commands that have @tunnel_options.
    """

    worker: str | None
    device_dir: Path
    containers: Path | None
    source: str
    nfs_server: str | None
    data_services: str | None
    gateway: SshGateway | None = None

    async def attacher(self, cluster: Cluster) -> Attachers:
        """Return the attacher that fits.  Errors: as choose_attacher; as find_vm for the worker VM."""
        worker_id = "" if self.worker is None else (await find_vm(cluster, self.worker)).id
        return await choose_attacher(cluster.prism, cluster.findings, self.options(worker_id))

    def options(self, worker_id: str = "") -> AttachOptions:
        """Return what an attacher is told, with the id of the worker VM."""
        return AttachOptions(
            worker_id,
            self.device_dir,
            self.containers,
            self.source,
            nfs_server=self.nfs_server or "",
            data_services=self.data_services or "",
            gateway=self.gateway,
        )


def attach_options(function: Function) -> Function:
    """Add --source and what each way may be told; pass `attach`."""

    @click.option(
        "--source",
        type=click.Choice(source_names()),
        default=AUTO,
        show_default=True,
        envvar="NTX_SOURCE",
        show_envvar=True,
        help="The way to the bytes; auto takes the first of them that can be used.",
    )
    @click.option(
        "--worker",
        type=Given(),
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
    @click.option(
        "--nfs-server",
        type=Given(),
        envvar="NTX_NFS_SERVER",
        show_envvar=True,
        metavar="HOST",
        help="Who is asked over NFS: the controller VM of the VM's host, else the address of the cluster.",
    )
    @click.option(
        "--data-services",
        type=Given(),
        envvar="NTX_DATA_SERVICES",
        show_envvar=True,
        metavar="HOST[:PORT]",
        help="Who is asked over iSCSI: the cluster's data services address, port 3260.",
    )
    @functools.wraps(function)
    def with_attach(*args: Any, **kwargs: Any) -> Any:
        fields = (field.name for field in dataclasses.fields(AttachArguments) if field.name != "gateway")
        told = {name: kwargs.pop(name) for name in fields}
        return function(*args, attach=AttachArguments(**told), **kwargs)

    return with_attach
