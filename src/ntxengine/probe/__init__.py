"""A probe: whether a capture would work here, and if not, what to do; before anything is frozen.

model.py     what a check finds, what a person may say
check.py     what a check is, and what checks know of each other
registry.py  the table of all checks, in the order in which they are told
run.py       runs them: what needs what, time limits, independent ones together
workflow.py  from options to findings, and the clean-up
network.py families.py rights.py cluster.py vm.py sources.py local.py live.py   the checks, by what they look at
words.py     words that several checks share
machine.py   this machine: names, routes, programs
report.py    all of it as a file that may be shown to others; questions.py: what no document says, and was seen

To add a check: a small class beside its like, and its row in registry.py.
"""

from __future__ import annotations

from ntxengine.probe.model import STATUSES, Line, ProbeOptions, Result, Status
from ntxengine.probe.report import Json, Report, found_of, hidden, report_of
from ntxengine.probe.workflow import Probe, probe

__all__ = [
    "STATUSES",
    "Json",
    "Line",
    "Probe",
    "ProbeOptions",
    "Report",
    "Result",
    "Status",
    "found_of",
    "hidden",
    "probe",
    "report_of",
]
