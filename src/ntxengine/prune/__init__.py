"""Pruning: forgotten points give their space back.

plan.py       which points take over what is below them, and which can just go
cost.py       what a merge would write, and free
merge.py      the disks of one point, made anew
workflow.py   one VM after another
"""

from ntxengine.prune.workflow import DEFAULT_MAX_WASTE, Merged, PruneOptions, PruneReport, VmPruned, prune, shorten

__all__ = ["DEFAULT_MAX_WASTE", "Merged", "PruneOptions", "PruneReport", "VmPruned", "prune", "shorten"]
