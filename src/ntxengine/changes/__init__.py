"""Which bytes of a disk a capture must read.

spool.py     regions as Prism pages them -> sorted, merged, in bounded memory
policy.py    which question to ask, and what to do when there is no answer
"""

from ntxengine.changes.policy import (
    ON_LOST_TRACKING,
    Changes,
    OnLostTracking,
    Previous,
    Question,
    Tracking,
    find_changes,
)
from ntxengine.changes.spool import RegionSpool, spool_to_file

__all__ = [
    "ON_LOST_TRACKING",
    "Changes",
    "OnLostTracking",
    "Previous",
    "Question",
    "RegionSpool",
    "Tracking",
    "find_changes",
    "spool_to_file",
]
