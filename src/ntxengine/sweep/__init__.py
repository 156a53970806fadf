"""Sweeping: removing what captures that were killed left on a cluster, in a repository, in a folder.

workflow.py    all of it, in order                 report.py     what was removed
cluster.py     recovery points, hot-added disks    repository.py unfinished points, empty folders
directory.py   unfinished files
"""

from ntxengine.sweep.directory import sweep_directory
from ntxengine.sweep.report import FILES, SweepReport, Swept
from ntxengine.sweep.workflow import sweep

__all__ = ["FILES", "SweepReport", "Swept", "sweep", "sweep_directory"]
