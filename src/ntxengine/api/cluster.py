"""A cluster by its address, and its VMs by their names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from ntxengine import prism
from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.ids import is_uuid
from ntxengine.prism import Cluster, Endpoint, Secret, Vm


@asynccontextmanager
async def connect(
    url: str,
    *,
    username: str,
    password: str,
    ca_file: str | None = None,
    insecure: bool = False,
    timeout_s: float = 60.0,
) -> AsyncIterator[Cluster]:
    """Connect to the Prism Central or the Prism Element at `url`, find out what it can do, and disconnect on exit.

    `url` is https://HOST[:PORT], port 9440 if none.  `ca_file` is a PEM file with the authority that signed the
    certificate, None for those that the machine trusts.
    Units:  `timeout_s` limits each request, in seconds.
    Errors: OptionsError (the address, the CA file), PrismConnectionError, CredentialsError, PrismError.
    """
    endpoint = Endpoint(url, username, Secret(password), ca_file=ca_file, insecure=insecure, timeout_s=timeout_s)
    async with await prism.connect(endpoint, endpoint) as cluster:
        yield cluster


async def find_vm(cluster: Cluster, name: str) -> Vm:
    """Return the VM with this UUID or name.

    Errors: NotFoundError if there is none; OptionsError if several have the name; PrismError.
    """
    if is_uuid(name):
        return await cluster.prism.vm(name.lower())
    return vm_named(await cluster.prism.vms(), name)


def vm_named(vms: Iterable[Vm], name: str) -> Vm:
    """Return the one of `vms` that has this name.  Errors: as find_vm."""
    found = [vm for vm in vms if vm.name == name]
    if not found:
        raise NotFoundError(f"no VM is named {name!r}: `ntx vms` lists those that this account may see")
    if len(found) > 1:
        raise OptionsError(
            f"{len(found)} VMs are named {name!r}: name one by its UUID: {', '.join(vm.id for vm in found)}"
        )
    return found[0]
