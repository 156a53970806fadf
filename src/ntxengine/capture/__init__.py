"""Capturing a VM: the main job, in order, with clean-up.

workflow.py  from lock to commit, and back if something fails
plan.py      what would be done                                    parent.py    what it goes on top of
freeze.py    the recovery point                                    disk.py      one disk
consistency.py  how the guest is made consistent            storage.py   on what its disks lie
copying.py   its copy, which goes on after a lost connection
resume.py    going on with one that was interrupted; resumed_disk.py: a disk of it
readback.py  the proof                                             report.py    the numbers
audit.py     whether the cluster told all                          record.py    what the point says of itself
expiry.py    letting the cluster keep the recovery point meanwhile
recorded.py  what it made on the cluster                           several.py   several VMs
options.py   how to capture                                        estimate.py  how many bytes it will add
groups.py    volume groups of the VM                               clones.py    disks that captures attached to it
disk_audit.py   an audit, as a step of one disk                shorten.py   a chain with as many images as may be
reference.py    what is compared with where there are no points
gathering.py    several VMs frozen at one moment: they wait for each other; together.py: all of it

Who wants to know gives `on_event` (ntxengine.events).
"""

from ntxengine.capture.audit import Audit, parse_audit
from ntxengine.capture.consistency import can_be_application_consistent
from ntxengine.capture.gathering import plans_together
from ntxengine.capture.options import (
    CONSISTENCY_CHOICES,
    DEFAULT_EXPIRY,
    DEFAULT_MAX_CHAIN,
    VSS_BACKUPS,
    CaptureOptions,
    ConsistencyChoice,
)
from ntxengine.capture.plan import CapturePlan, DiskPlan, plan_capture
from ntxengine.capture.several import Outcome, capture_several
from ntxengine.capture.storage import DiskStorage, storage_of
from ntxengine.capture.together import capture_together
from ntxengine.capture.workflow import capture
from ntxengine.changes import ON_LOST_TRACKING, OnLostTracking

__all__ = [
    "CONSISTENCY_CHOICES",
    "DEFAULT_EXPIRY",
    "DEFAULT_MAX_CHAIN",
    "ON_LOST_TRACKING",
    "VSS_BACKUPS",
    "Audit",
    "CaptureOptions",
    "CapturePlan",
    "ConsistencyChoice",
    "DiskPlan",
    "DiskStorage",
    "OnLostTracking",
    "Outcome",
    "can_be_application_consistent",
    "capture",
    "capture_several",
    "capture_together",
    "parse_audit",
    "plan_capture",
    "plans_together",
    "storage_of",
]
