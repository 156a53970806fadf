"""Which bytes of a disk a capture must read.

spool.py     regions as Prism pages them -> sorted, merged, in bounded memory
blocks.py    regions in whole blocks, as a copy stores them
policy.py    what to ask Prism for, and what to do when it has no answer
sampling.py  which blocks to read although Prism says that there is no need to
"""

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
    "OnLostTracking",
    "Previous",
    "RegionSpool",
    "Tracking",
    "find_changes",
    "read_all_instead",
    "spool_to_file",
]
