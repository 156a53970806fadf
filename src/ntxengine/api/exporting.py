"""A VM by its name, exported to a control plane in one call."""

from __future__ import annotations

from pathlib import Path

from ntxengine.api.cluster import find_vm
from ntxengine.attach import AUTO, DEVICE_DIR, AttachOptions, choose_attacher
from ntxengine.errors import ToolError
from ntxengine.events import OnEvent, log_event
from ntxengine.export.options import ExportOptions
from ntxengine.prism import Cluster
from ntxengine.repository import Repository

try:
    from ntxengine.export.workflow import Exported, export
except ModuleNotFoundError as missing:
    raise ToolError(f"exports need {missing.name}: pip install 'ntxengine[agent]'") from missing


async def export_vm(
    cluster: Cluster,
    state: Repository,
    vm: str,
    *,
    options: ExportOptions,
    worker: str = "",
    device_dir: Path | str = DEVICE_DIR,
    containers: Path | str | None = None,
    nfs_server: str = "",
    data_services: str = "",
    source: str = AUTO,
    on_event: OnEvent = log_event,
) -> Exported:
    """Freeze a VM, named by name or UUID, and let a control plane read it; return when that says that it is done.

    `state` is a repository that has no points: it records what exports made on the cluster.  `options` say how the
    control plane gets at the disks, where it is told of them, and what it has already (`since`).  The way to the bytes
    is as capture_vm has it, and so is `on_event`.
    Errors: NotFoundError, OptionsError, LockedError; ControlPlaneError (not told, refused, or it failed),
            ControlPlaneTimeout; ToolError (a library is not installed); whatever a part of the workflow raises first.
            Nothing is left then, here or on the cluster, except what the log says could not be removed.
    """
    found = await find_vm(cluster, vm)
    attach = AttachOptions(
        worker_id=(await find_vm(cluster, worker)).id if worker else "",
        device_dir=Path(device_dir),
        containers=None if containers is None else Path(containers),
        nfs_server=nfs_server,
        data_services=data_services,
        source=source,
    )
    attacher = await choose_attacher(cluster.prism, cluster.findings, attach)
    return await export(cluster.prism, state, found, options=options, attacher=attacher, on_event=on_event)
