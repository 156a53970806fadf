"""The repository: points on disk, written whole or not at all, readable by any qemu."""

from ntxengine.repository.chain import Chains
from ntxengine.repository.changed import changed_extents
from ntxengine.repository.health import Health
from ntxengine.repository.point import Point, PointDisk, PointRecord
from ntxengine.repository.report import CaptureReport, DiskReport
from ntxengine.repository.repository import Repository, VmSummary
from ntxengine.repository.stored import StoredDiskPoint
from ntxengine.repository.unfinished import UnfinishedPoint
from ntxengine.repository.vm_names import NamedVm

__all__ = [
    "CaptureReport",
    "Chains",
    "DiskReport",
    "Health",
    "NamedVm",
    "Point",
    "PointDisk",
    "PointRecord",
    "Repository",
    "StoredDiskPoint",
    "UnfinishedPoint",
    "VmSummary",
    "changed_extents",
]
