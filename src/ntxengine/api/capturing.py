"""A VM by its name, captured in one call."""

from __future__ import annotations

from pathlib import Path

from ntxengine.api.cluster import find_vm
from ntxengine.attach import AUTO, DEVICE_DIR, AttachOptions, choose_attacher
from ntxengine.capture import CaptureOptions, capture
from ntxengine.events import OnEvent, log_event
from ntxengine.prism import Cluster
from ntxengine.repository import Point, Repository
from ntxengine.tunnel.options import SshGateway


async def capture_vm(
    cluster: Cluster,
    repository: Repository,
    vm: str,
    *,
    worker: str = "",
    device_dir: Path | str = DEVICE_DIR,
    containers: Path | str | None = None,
    nfs_server: str = "",
    data_services: str = "",
    source: str = AUTO,
    gateway: SshGateway | None = None,
    options: CaptureOptions | None = None,
    on_event: OnEvent = log_event,
) -> Point:
    """Capture a VM, named by name or UUID: in full the first time, then what changed.  Return the committed point.

    The way to the bytes is `worker`, this machine as a VM of the cluster, to which disks are added that appear in
    `device_dir`; or `containers`, a directory that has each storage container mounted under its name (Prism v3); or the
    network: `nfs_server` (Prism v3) and `data_services` (iSCSI, `host[:port]`), "" for what the cluster tells.
    `source` names the only way that may be used, as `ntx capture --source` does.  `gateway`: iSCSI through that ssh
    server, and no other way.
    `on_event` is called in the event loop, often, with a subclass of Event; what it raises ends the capture.
    Errors: NotFoundError, OptionsError (no way to the bytes), LockedError; whatever a part of the workflow raises
            first.  Nothing is left then, here or on the cluster, except what the log says could not be removed, and
            what the next capture of the VM goes on with, of which a warning tells.
    """
    found = await find_vm(cluster, vm)
    attach = AttachOptions(
        worker_id=(await find_vm(cluster, worker)).id if worker else "",
        device_dir=Path(device_dir),
        containers=None if containers is None else Path(containers),
        nfs_server=nfs_server,
        data_services=data_services,
        source=source,
        gateway=gateway,
    )
    attacher = await choose_attacher(cluster.prism, cluster.findings, attach)
    return await capture(
        cluster.prism,
        repository,
        found,
        options=options or CaptureOptions(),
        attacher=attacher,
        on_event=on_event,
    )
