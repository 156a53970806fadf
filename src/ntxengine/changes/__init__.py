"""Which bytes of a disk a capture must read.

spool.py     regions as Prism pages them -> sorted, merged, in bounded memory
blocks.py    regions in whole blocks, as a copy stores them
policy.py    what to ask Prism for, and what to do when it has no answer
kept.py      what to read, kept for whoever goes on after a kill
sampling.py  which blocks to read although Prism says that there is no need to
"""

from ntxengine.changes.kept import KeptChanges, keep_changes, read_kept
from ntxengine.changes.policy import (
    ON_LOST_TRACKING,
    ChangeQuery,
    Changes,
    OnLostTracking,
    Previous,
    Tracking,
    find_changes,
    read_all_instead,
)
from ntxengine.changes.spool import RegionSpool, spool_to_file

__all__ = [
    "ON_LOST_TRACKING",
    "ChangeQuery",
    "Changes",
    "KeptChanges",
    "OnLostTracking",
    "Previous",
    "RegionSpool",
    "Tracking",
    "find_changes",
    "keep_changes",
    "read_all_instead",
    "read_kept",
    "spool_to_file",
]
