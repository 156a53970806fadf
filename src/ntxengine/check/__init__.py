"""Checking a repository: whether all of it is there and as it was written, and mending what can be mended safely.

workflow.py   the directory, then each VM, then the data
data.py       the tables of images, and the bytes of disks by what verifies them
report.py     what was found
repair.py     what was left is removed, caches and names made anew
"""

from ntxengine.check.data import DataOptions
from ntxengine.check.repair import Repair, RepairReport, repair_repository
from ntxengine.check.report import CheckReport
from ntxengine.check.workflow import check_repository

__all__ = ["CheckReport", "DataOptions", "Repair", "RepairReport", "check_repository", "repair_repository"]
