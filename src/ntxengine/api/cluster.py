"""A cluster by its address, and its VMs by their names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ntxengine import prism
from ntxengine.prism import Cluster, Endpoint, Secret, Trust, Vm
from ntxengine.prism.cluster import vm_named


@asynccontextmanager
async def connect(
    url: str,
    *,
    username: str,
    password: str,
    auth: str = "local",
    project: str | None = None,
    ca_file: str | None = None,
    fingerprint: str | None = None,
    insecure: bool = False,
    elements: Trust | None = None,
    timeout_s: float = 60.0,
) -> AsyncIterator[Cluster]:
    """Connect to the Prism Central or the Prism Element at `url`, find out what it can do, and disconnect on exit.

    `url` is https://HOST[:PORT], port 9440 if none.  `auth` is the kind of account: local, ad, api_key (`password` is
    the key then, and `username` may be empty).  `project` is the extId of the project of recovery points.
    `ca_file` is a PEM file with the authority that signed the certificate, None for those that the machine trusts;
    `fingerprint` is the SHA-256 of a certificate that is trusted whoever signed it; `insecure` trusts any.  `elements`
    says how those of the Prism Elements are judged that a Prism Central names; as it comes, by `ca_file`.
    Units:  `timeout_s` limits each request, in seconds.
    Errors: OptionsError (address, account, CA file), PrismConnectionError, CredentialsError, PrismError.
    """
    endpoint = Endpoint(
        url,
        username,
        Secret(password),
        ca_file=ca_file,
        insecure=insecure,
        timeout_s=timeout_s,
        auth=auth,
        project=project,
        fingerprint=fingerprint,
        elements=elements,
    )
    async with await prism.connect(endpoint, endpoint) as cluster:
        yield cluster


async def find_vm(cluster: Cluster, name: str) -> Vm:
    """Return the VM with this UUID or name.  Few requests however many VMs there are, where Prism looks up names.

    Errors: NotFoundError if there is none; OptionsError if several have the name; PrismAnswerError if it is a VM that
            cannot be read; PrismError.
    """
    return await vm_named(cluster.prism, name)
