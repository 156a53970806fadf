"""Syncing: the points of one repository that another lacks, written there.

plan.py       what is missing, and what it goes on top of there
point.py      one point
workflow.py   one VM after another
"""

from ntxengine.sync.workflow import SyncedPoint, SyncOptions, SyncReport, VmSynced, check_apart, sync

__all__ = ["SyncOptions", "SyncReport", "SyncedPoint", "VmSynced", "check_apart", "sync"]
