"""Rebasing: a disk of a point in a new image, on top of another point than before, or of none.

disk.py       what of the disk that image has to hold, written and compared
progress.py   how far that got, for the next try
proof.py      the new image, read back
"""

from ntxengine.rebase.disk import WRITER, Rebased, rebase_disk
from ntxengine.rebase.proof import prove

__all__ = ["WRITER", "Rebased", "prove", "rebase_disk"]
