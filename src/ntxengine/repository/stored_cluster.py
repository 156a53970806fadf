"""What a record of a cluster is as a file: see cluster_record.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ntxengine.repository.stored import StoredDiskPoint, StoredHead, StoredSite

CLUSTER_FORMAT, CLUSTER_VERSION, CLUSTER_VERSION_OF_EXPORT = "ntxengine-cluster-record", 2, 3
READABLE_CLUSTER_VERSIONS = (1, 2, 3)
"""2 brought `source`, and what several VMs share (`together`, `is_released`).  Who does not know these would miss what
such a way leaves, or delete what another VM needs.  3 is written where there is a `reference`: who does not know it
would delete that."""


@dataclass(frozen=True)
class StoredReferenceDisk:
    """A disk of a recovery point that the next export is compared with; `size` in bytes is what it had then."""

    size: int
    point: StoredDiskPoint


@dataclass(frozen=True)
class StoredClusterRecord:
    """What a capture made on a cluster: see cluster_record.ClusterRecord."""

    point_id: str
    name: str
    worker_id: str
    recovery_point_id: str = ""
    sources: tuple[str, ...] = ()
    source: str = ""
    together: tuple[str, ...] = ()
    is_released: bool = False
    attached_at: datetime | None = None
    reference: tuple[StoredReferenceDisk, ...] = ()


@dataclass(frozen=True)
class StoredFolder:
    """The folder that a cluster record counts in."""

    site: StoredSite
    inodes: tuple[int, int]


@dataclass(frozen=True)
class StoredClusterFile(StoredHead):
    """.cluster-<point id>.json."""

    record: StoredClusterRecord
    made_in: StoredFolder
