"""Restoring: the disks of a point as plain files, whole or not at all.

workflow.py   from the names to the last rename
disk.py       one disk, compared while it is written
"""

from ntxengine.restore.disk import RestoreFormat
from ntxengine.restore.workflow import RESTORE_FORMATS, RestoreOptions, RestoreReport, file_names, restore

__all__ = ["RESTORE_FORMATS", "RestoreFormat", "RestoreOptions", "RestoreReport", "file_names", "restore"]
