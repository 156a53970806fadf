"""Restoring: the disks of a point as files, or onto devices and servers.

workflow.py   from the names to the last rename
targets.py    where each disk goes, and what is refused before anything is touched
folder.py     the directory that takes disks, and the names of the files in it
disk.py       one disk, compared while it is written
in_place.py   one disk, of which only what differs is written
salvage.py    one disk of which something cannot be read
losses.py     what of it is not what was captured
disk_work.py  what all of these share
options.py    what a caller may choose
"""

from ntxengine.restore.folder import file_names
from ntxengine.restore.losses import MOST_RANGES, BadRange
from ntxengine.restore.options import RESTORE_FORMATS, RestoreFormat, RestoreOptions
from ntxengine.restore.targets import Destination, Request
from ntxengine.restore.workflow import FailedDisk, RestoredDisk, RestoreReport, plan, restore

__all__ = [
    "MOST_RANGES",
    "RESTORE_FORMATS",
    "BadRange",
    "Destination",
    "FailedDisk",
    "Request",
    "RestoreFormat",
    "RestoreOptions",
    "RestoreReport",
    "RestoredDisk",
    "file_names",
    "plan",
    "restore",
]
