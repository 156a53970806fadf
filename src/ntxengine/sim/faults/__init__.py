"""Switches that make the simulator misbehave as clusters do.  All may be changed while it runs.

    script      `Faults`: everything that is switched on, in Python or in YAML
    requests    which requests a fault is for, and how many of them
    http        another answer instead of the real one, or a late one
    answers     the real answer, changed: a registry of kinds
    lists       a list that is not as it was asked for: a registry of kinds
    regions     a page of changed regions, spoiled: a registry of kinds
    tasks       a task of v4, said in another way: a registry of kinds
    etags       what removing a disk needs: a table of rules
    certificates  what is wrong with the certificate of an endpoint: a registry of kinds
    logins      a directory that is slow, takes one login at a time, and locks accounts
    volumes     volume groups, and the way to them: a registry of kinds
    hidden      places that changed regions do not tell of: a registry of kinds

A new kind of `answers`, `regions`, `tasks`, `certificates`, `volumes` or `hidden` is a function with its name above it;
nothing else needs to know of it.
"""

from ntxengine.sim.faults.answers import ANSWER_FAULTS, AnswerFault
from ntxengine.sim.faults.certificates import CERTIFICATE_FAULTS
from ntxengine.sim.faults.etags import ETAG_RULES, EtagRule
from ntxengine.sim.faults.hidden import HIDING, HiddenRegion
from ntxengine.sim.faults.http import HttpFault
from ntxengine.sim.faults.lists import ListFault
from ntxengine.sim.faults.logins import LoginFaults
from ntxengine.sim.faults.regions import REGION_FAULTS, RegionFault
from ntxengine.sim.faults.script import Faults, TaskKind
from ntxengine.sim.faults.tasks import TASK_FAULTS, TaskFault
from ntxengine.sim.faults.volumes import VOLUME_FAULTS

__all__ = [
    "ANSWER_FAULTS",
    "CERTIFICATE_FAULTS",
    "ETAG_RULES",
    "HIDING",
    "REGION_FAULTS",
    "TASK_FAULTS",
    "VOLUME_FAULTS",
    "AnswerFault",
    "EtagRule",
    "Faults",
    "HiddenRegion",
    "HttpFault",
    "ListFault",
    "LoginFaults",
    "RegionFault",
    "TaskFault",
    "TaskKind",
]
