"""ntxengine: an open capture engine for Nutanix AHV.

What is in `__all__` is the library: docs/library.md shows how it is used.  All else may change without notice.
Importing it loads nothing: each name is fetched from its home when it is first used.  A new one is an import for type
checkers, a row in the table, and a line in `__all__`; tests/test_library.py holds them together.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ntxengine.api.capturing import capture_vm
    from ntxengine.api.cluster import connect, find_vm
    from ntxengine.api.copying import copy, digest
    from ntxengine.api.inventory import VmFilter, search_vms
    from ntxengine.api.points import newest_point, prune_vms, restore_point, sync_vms
    from ntxengine.capture import Audit, CaptureOptions
    from ntxengine.check import CheckReport, RepairReport, check_repository, repair_repository
    from ntxengine.compare import DiskDifference, PointDifference, compare_points
    from ntxengine.copying import DiskCopyReport
    from ntxengine.dataplane.bandwidth import Bandwidth
    from ntxengine.dataplane.copy import CopyOptions
    from ntxengine.dataplane.differing import differing_extents
    from ntxengine.dataplane.extents import ZERO, Extents
    from ntxengine.dataplane.manifest import Manifest
    from ntxengine.dataplane.progress import CopyReport, Progress
    from ntxengine.dataplane.security import ConnectionOptions, TlsOptions
    from ntxengine.errors import (
        AttachError,
        Cancelled,
        ChecksumMismatch,
        ControlPlaneError,
        ControlPlaneTimeout,
        CredentialsError,
        LockedError,
        MachineError,
        NbdError,
        NbdNegotiationError,
        NbdProtocolError,
        NbdReplyError,
        NotFoundError,
        NtxError,
        OptionsError,
        OtherFailed,
        PlaceError,
        PrismAnswerError,
        PrismBusy,
        PrismConnectionError,
        PrismError,
        PrismProtected,
        PrismStatusError,
        PrismTimeout,
        RepositoryError,
        SourceError,
        StateError,
        TargetError,
        TaskFailed,
        ToolError,
        TransferTimeout,
    )
    from ntxengine.events import (
        DiskDone,
        Event,
        Planned,
        PointCommitted,
        Progressed,
        Removed,
        Stage,
        StageBegan,
        StartedOver,
        Warned,
    )
    from ntxengine.images.choice import ImageOptions
    from ntxengine.prism import Cluster, Disk, Vm
    from ntxengine.prune import PruneOptions, PruneReport
    from ntxengine.repository import Hold, Point, PointDisk, PointRetention, Repository, Retention, changed_extents
    from ntxengine.restore import RestoreOptions, RestoreReport
    from ntxengine.retention import Forgotten, Policy, VmDecision, bring_back, forget_by_policy, forget_points
    from ntxengine.stats import RepositorySpace, repository_stats
    from ntxengine.sync import SyncOptions, SyncReport
    from ntxengine.tunnel.options import SshGateway, SshLogin, SshOptions
    from ntxengine.verify import PointVerdict, Sampled, Sampling, verify_point

__version__ = "0.1.0"

_HOMES = {
    "capture_vm": "ntxengine.api.capturing",
    "connect": "ntxengine.api.cluster",
    "find_vm": "ntxengine.api.cluster",
    "VmFilter": "ntxengine.api.inventory",
    "search_vms": "ntxengine.api.inventory",
    "copy": "ntxengine.api.copying",
    "digest": "ntxengine.api.copying",
    "newest_point": "ntxengine.api.points",
    "prune_vms": "ntxengine.api.points",
    "restore_point": "ntxengine.api.points",
    "sync_vms": "ntxengine.api.points",
    "Audit": "ntxengine.capture",
    "CaptureOptions": "ntxengine.capture",
    "CheckReport": "ntxengine.check",
    "RepairReport": "ntxengine.check",
    "check_repository": "ntxengine.check",
    "repair_repository": "ntxengine.check",
    "DiskDifference": "ntxengine.compare",
    "PointDifference": "ntxengine.compare",
    "compare_points": "ntxengine.compare",
    "DiskCopyReport": "ntxengine.copying",
    "Bandwidth": "ntxengine.dataplane.bandwidth",
    "ControlPlaneError": "ntxengine.errors",
    "ControlPlaneTimeout": "ntxengine.errors",
    "CopyOptions": "ntxengine.dataplane.copy",
    "differing_extents": "ntxengine.dataplane.differing",
    "ZERO": "ntxengine.dataplane.extents",
    "Extents": "ntxengine.dataplane.extents",
    "Manifest": "ntxengine.dataplane.manifest",
    "CopyReport": "ntxengine.dataplane.progress",
    "Progress": "ntxengine.dataplane.progress",
    "ConnectionOptions": "ntxengine.dataplane.security",
    "TlsOptions": "ntxengine.dataplane.security",
    "AttachError": "ntxengine.errors",
    "Cancelled": "ntxengine.errors",
    "ChecksumMismatch": "ntxengine.errors",
    "CredentialsError": "ntxengine.errors",
    "LockedError": "ntxengine.errors",
    "MachineError": "ntxengine.errors",
    "NbdError": "ntxengine.errors",
    "NbdNegotiationError": "ntxengine.errors",
    "NbdProtocolError": "ntxengine.errors",
    "NbdReplyError": "ntxengine.errors",
    "NotFoundError": "ntxengine.errors",
    "NtxError": "ntxengine.errors",
    "OptionsError": "ntxengine.errors",
    "OtherFailed": "ntxengine.errors",
    "PlaceError": "ntxengine.errors",
    "PrismAnswerError": "ntxengine.errors",
    "PrismBusy": "ntxengine.errors",
    "PrismConnectionError": "ntxengine.errors",
    "PrismError": "ntxengine.errors",
    "PrismProtected": "ntxengine.errors",
    "PrismStatusError": "ntxengine.errors",
    "PrismTimeout": "ntxengine.errors",
    "RepositoryError": "ntxengine.errors",
    "SourceError": "ntxengine.errors",
    "StateError": "ntxengine.errors",
    "TargetError": "ntxengine.errors",
    "TaskFailed": "ntxengine.errors",
    "ToolError": "ntxengine.errors",
    "TransferTimeout": "ntxengine.errors",
    "DiskDone": "ntxengine.events",
    "Event": "ntxengine.events",
    "PointCommitted": "ntxengine.events",
    "Planned": "ntxengine.events",
    "Progressed": "ntxengine.events",
    "Removed": "ntxengine.events",
    "Stage": "ntxengine.events",
    "StageBegan": "ntxengine.events",
    "StartedOver": "ntxengine.events",
    "Warned": "ntxengine.events",
    "ImageOptions": "ntxengine.images.choice",
    "Cluster": "ntxengine.prism",
    "Disk": "ntxengine.prism",
    "Vm": "ntxengine.prism",
    "Point": "ntxengine.repository",
    "PointDisk": "ntxengine.repository",
    "Repository": "ntxengine.repository",
    "changed_extents": "ntxengine.repository",
    "PruneOptions": "ntxengine.prune",
    "PruneReport": "ntxengine.prune",
    "RestoreOptions": "ntxengine.restore",
    "RestoreReport": "ntxengine.restore",
    "RepositorySpace": "ntxengine.stats",
    "repository_stats": "ntxengine.stats",
    "SyncOptions": "ntxengine.sync",
    "SyncReport": "ntxengine.sync",
    "SshGateway": "ntxengine.tunnel.options",
    "SshLogin": "ntxengine.tunnel.options",
    "SshOptions": "ntxengine.tunnel.options",
    "PointVerdict": "ntxengine.verify",
    "Sampled": "ntxengine.verify",
    "Sampling": "ntxengine.verify",
    "verify_point": "ntxengine.verify",
    "Hold": "ntxengine.repository",
    "PointRetention": "ntxengine.repository",
    "Retention": "ntxengine.repository",
    "Forgotten": "ntxengine.retention",
    "Policy": "ntxengine.retention",
    "VmDecision": "ntxengine.retention",
    "bring_back": "ntxengine.retention",
    "forget_by_policy": "ntxengine.retention",
    "forget_points": "ntxengine.retention",
}
"""Where each public name lives.  The imports for type checkers above say the same."""

__all__ = [
    "ZERO",
    "AttachError",
    "Audit",
    "Bandwidth",
    "Cancelled",
    "CaptureOptions",
    "CheckReport",
    "ChecksumMismatch",
    "Cluster",
    "ConnectionOptions",
    "ControlPlaneError",
    "ControlPlaneTimeout",
    "CopyOptions",
    "CopyReport",
    "CredentialsError",
    "Disk",
    "DiskCopyReport",
    "DiskDifference",
    "DiskDone",
    "Event",
    "Extents",
    "Forgotten",
    "Hold",
    "ImageOptions",
    "LockedError",
    "MachineError",
    "Manifest",
    "NbdError",
    "NbdNegotiationError",
    "NbdProtocolError",
    "NbdReplyError",
    "NotFoundError",
    "NtxError",
    "OptionsError",
    "OtherFailed",
    "PlaceError",
    "Planned",
    "Point",
    "PointCommitted",
    "PointDifference",
    "PointDisk",
    "PointRetention",
    "PointVerdict",
    "Policy",
    "PrismAnswerError",
    "PrismBusy",
    "PrismConnectionError",
    "PrismError",
    "PrismProtected",
    "PrismStatusError",
    "PrismTimeout",
    "Progress",
    "Progressed",
    "PruneOptions",
    "PruneReport",
    "Removed",
    "RepairReport",
    "Repository",
    "RepositoryError",
    "RepositorySpace",
    "RestoreOptions",
    "RestoreReport",
    "Retention",
    "Sampled",
    "Sampling",
    "SourceError",
    "SshGateway",
    "SshLogin",
    "SshOptions",
    "Stage",
    "StageBegan",
    "StartedOver",
    "StateError",
    "SyncOptions",
    "SyncReport",
    "TargetError",
    "TaskFailed",
    "TlsOptions",
    "ToolError",
    "TransferTimeout",
    "Vm",
    "VmDecision",
    "VmFilter",
    "Warned",
    "__version__",
    "bring_back",
    "capture_vm",
    "changed_extents",
    "check_repository",
    "compare_points",
    "connect",
    "copy",
    "differing_extents",
    "digest",
    "find_vm",
    "forget_by_policy",
    "forget_points",
    "newest_point",
    "prune_vms",
    "repair_repository",
    "repository_stats",
    "restore_point",
    "search_vms",
    "sync_vms",
    "verify_point",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Fetch a public name from its home, once.  Errors: AttributeError."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
