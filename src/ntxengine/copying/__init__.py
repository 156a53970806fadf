"""Copying a disk to another place, through lost connections, kills and power cuts.

request.py     what to copy, and what became of it
workflow.py    from the names to the last rename: copy, verify, digest the rest
passes.py      one pass over the disk, counted over all its attempts
kept.py        what outlives the process: the manifest that was asked for, or nothing
journaled.py   the same with a journal, from which the next run goes on
streamed.py    the same from standard input, or to standard output: once, in order
identity.py    by what that one knows that it is the same copy
"""

from ntxengine.copying.request import CopyRequest, CopyResult, DiskCopyReport
from ntxengine.copying.workflow import Telling, copy_disk, open_source_of

__all__ = ["CopyRequest", "CopyResult", "DiskCopyReport", "Telling", "copy_disk", "open_source_of"]
