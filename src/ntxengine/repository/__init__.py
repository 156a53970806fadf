"""The repository: points on disk, written whole or not at all, readable by any qemu.

repository.py      the face of it all, to be awaited           store.py           the same for threads, and tests
point.py           what is recorded of a point                 stored.py          the fields of every JSON file
stored_cluster.py  those of a record of the cluster
layout.py          names                                       marker.py, site.py what the directory is, and where
unfinished.py      a point that is being made                  lock.py            one capture per VM at a time
scan.py            what the directory holds                    catalog.py         a copy of that, for speed
chain.py           images on top of each other                 health.py          which points can be read whole
sums.py            digests of the small files                  cluster_record.py  what was made on a cluster
leftovers.py       what a killed capture left, and strays.py   adopt.py           a copy becomes a repository
filesystem.py      what the file system can                    vm_names.py        from a name to a VM
distrust.py        points whose tracking is distrusted since an audit
sampled.py         how far verifying by samples has got
unfinished_point.py  as unfinished.py, to be awaited
retention.py       tags, holds, and what is forgotten        retention_file.py  where that is stored
interrupted.py     captures that can be gone on with
report.py          what a capture tells of itself              changed.py         where a disk differs from another
rewrite.py         what a point says of itself, replaced       removal.py         points and images that nobody needs
reading.py         points that are read stay until that ends   upkeep.py          the face of these two
usage.py           what it takes on its file system
structure/         what all of it consists of, compared with what it should
"""

from ntxengine.repository.chain import Chains, check_image
from ntxengine.repository.changed import changed_extents
from ntxengine.repository.cluster_record import NAME_PREFIX, ClusterRecord, Records, Sharing
from ntxengine.repository.distrust import Distrust, Marks
from ntxengine.repository.health import Health
from ntxengine.repository.interrupted import (
    RESUME_FORMAT,
    RESUME_VERSION,
    Interrupted,
    StoredResume,
    StoredResumeDisk,
)
from ntxengine.repository.layout import VM_FILE, backing_name, is_point_id, vm_of
from ntxengine.repository.leftovers import Leftovers
from ntxengine.repository.lock import VmLock
from ntxengine.repository.point import Point, PointDisk, PointRecord, next_image_name
from ntxengine.repository.reading import reading
from ntxengine.repository.report import CaptureReport, DiskReport
from ntxengine.repository.repository import Repository, sweep_files
from ntxengine.repository.retention import Hold, PointRetention, Retention, checked_tag, hold_text
from ntxengine.repository.store import VmSummary
from ntxengine.repository.stored import (
    StoredAudit,
    StoredCluster,
    StoredDiskPoint,
    StoredGuestTools,
    StoredHead,
    StoredMember,
    StoredSample,
    decode_checked,
    encode_checked,
)
from ntxengine.repository.stored_cluster import StoredReferenceDisk
from ntxengine.repository.structure import Finding, Severity
from ntxengine.repository.unfinished import ResumePaths
from ntxengine.repository.unfinished_point import UnfinishedPoint
from ntxengine.repository.upkeep import Upkeep, all_points, copy_distrust, copy_said
from ntxengine.repository.usage import PointUsage, VmUsage, file_system_of, usage_of_vm
from ntxengine.repository.vm_names import NamedVm

__all__ = [
    "NAME_PREFIX",
    "RESUME_FORMAT",
    "RESUME_VERSION",
    "VM_FILE",
    "CaptureReport",
    "Chains",
    "ClusterRecord",
    "DiskReport",
    "Distrust",
    "Finding",
    "Health",
    "Hold",
    "Interrupted",
    "Leftovers",
    "Marks",
    "NamedVm",
    "Point",
    "PointDisk",
    "PointRecord",
    "PointRetention",
    "PointUsage",
    "Records",
    "Repository",
    "ResumePaths",
    "Retention",
    "Severity",
    "Sharing",
    "StoredAudit",
    "StoredCluster",
    "StoredDiskPoint",
    "StoredGuestTools",
    "StoredHead",
    "StoredMember",
    "StoredReferenceDisk",
    "StoredResume",
    "StoredResumeDisk",
    "StoredSample",
    "UnfinishedPoint",
    "Upkeep",
    "VmLock",
    "VmSummary",
    "VmUsage",
    "all_points",
    "backing_name",
    "changed_extents",
    "check_image",
    "checked_tag",
    "copy_distrust",
    "copy_said",
    "decode_checked",
    "encode_checked",
    "file_system_of",
    "hold_text",
    "is_point_id",
    "next_image_name",
    "reading",
    "sweep_files",
    "usage_of_vm",
    "vm_of",
]
