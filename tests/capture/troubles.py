"""Random faults of the simulator, of all its kinds: what a soak switches on before a capture.

A trouble is a name and a function that arms one fault.  Every field of `Faults` has one or says why it has none; a new
kind in a registry of the simulator takes part by itself.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from random import Random

from ntxengine.prism import Family
from ntxengine.sim import SimConfig
from ntxengine.sim.faults import (
    ANSWER_FAULTS,
    REGION_FAULTS,
    TASK_FAULTS,
    VOLUME_FAULTS,
    AnswerFault,
    Faults,
    HttpFault,
    TaskKind,
)
from ntxengine.sim.faults.etags import ETAG_RULES
from ntxengine.sim.faults.lists import ASKED_FAULTS, FOUND_FAULTS, ListFault
from ntxengine.sim.roles import RIGHTS

Trouble = Callable[[Random, Faults, Family], str]
"""Arms one fault and says which."""

NOT_HERE = {
    "hidden": "a region that the cluster keeps to itself: only --audit finds it, and its tests play it",
    "certificates": "they are made when the simulator begins",
}
"""Faults that take no part, by field, and why: most make a copy that is wrong and nobody can know."""

_NEEDS_A_FIELD = frozenset({"set", "drop"})

REQUESTS: dict[Family, list[str]] = {
    "v4": [
        "GET /config/tasks/",
        "POST /config/recovery-points$",
        "GET /config/recovery-points$",
        "GET /config/recovery-points/[^/]+$",
        "DELETE /config/recovery-points/[^/]+$",
        "GET /vm-recovery-points/[^/]+$",
        "POST discover-cluster$",
        "POST compute-changed-regions$",
        "GET /ahv/config/vms/[^/]+$",
        "GET /disks",
        "POST /disks$",
        "DELETE /disks/",
        "GET /volume-groups",
        "POST /volume-groups$",
        "POST iscsi-client",
        "DELETE /volume-groups/",
    ],
    "v3": [
        "POST /vm_snapshots$",
        "POST /vm_snapshots/list$",
        "GET /vm_snapshots/",
        "DELETE /vm_snapshots/",
        "POST /idempotence_identifiers",
        "POST /data/changed_regions",
        "GET /v3/vms/",
        r"GET v2\.0/vms/[^/]+$",
        r"POST v2\.0/vms/.*/attach$",
        r"POST v2\.0/vms/.*/detach$",
        r"GET v2\.0/tasks",
        "GET /volume_groups",
        "POST /volume_groups",
        "DELETE /volume_groups/",
    ],
}
"""What a capture asks, as method and pattern of the path."""

_UNCLEAR = frozenset({408, 500, 502, 503, 504})
"""After these a request may have been executed; all others mean that it was not."""

STATUSES = [400, 401, 403, 404, 404, 408, 409, 412, 422, 429, 500, 500, 500, 501, 502, 503, 504]


def _requests(chance: Random, family: Family) -> dict[str, typing.Any]:
    """Return which requests are hit: mostly one or a few of a kind, now and then all; or any."""
    method, _, path = chance.choice([*REQUESTS[family], " "]).partition(" ")
    count = -1 if chance.random() < 0.1 else chance.choice([1, 1, 1, 2, 3, 9])
    return {"path": path, "method": method, "count": count, "after": chance.choice([0, 0, 0, 0, 1, 3])}


def _http(chance: Random, faults: Faults, family: Family) -> str:
    status = chance.choice(STATUSES)
    fault = HttpFault(
        **_requests(chance, family),
        status=status,
        plain=chance.random() < 0.3,
        executed=status in _UNCLEAR and chance.random() < 0.5,
        delay_s=chance.choice([0, 0, 0.02]),
    )
    faults.http.append(fault)
    return str(fault)


def _answers(chance: Random, faults: Faults, family: Family) -> str:
    kinds = sorted(ANSWER_FAULTS.keys() - _NEEDS_A_FIELD)
    fault = AnswerFault(**_requests(chance, family), kind=chance.choice(kinds))
    faults.answers.append(fault)
    return str(fault)


def _regions(chance: Random, faults: Faults, _family: Family) -> str:
    faults.regions = chance.choice(sorted(REGION_FAULTS))
    return f"regions {faults.regions}"


def _tasks(chance: Random, faults: Faults, _family: Family) -> str:
    faults.tasks = chance.choice(sorted(TASK_FAULTS))
    return f"tasks {faults.tasks}"


def _lists(chance: Random, faults: Faults, family: Family) -> str:
    fields = {**_requests(chance, family), "path": "", "method": ""}
    kind = chance.choice(sorted(ASKED_FAULTS | FOUND_FAULTS))
    fault = ListFault(**fields, kind=kind, value=chance.choice([1, 2, 50]))
    faults.lists.append(fault)
    return str(fault)


def _etags(chance: Random, faults: Faults, _family: Family) -> str:
    faults.etags = chance.choice(sorted(ETAG_RULES))
    return f"etags {faults.etags}"


def _logins(chance: Random, faults: Faults, _family: Family) -> str:
    faults.logins.takes_s = chance.choice([0, 0.02])
    faults.logins.refuses_parallel = chance.random() < 0.5
    faults.logins.ends_as_403 = chance.random() < 0.5
    return str(faults.logins)


def _volumes(chance: Random, faults: Faults, _family: Family) -> str:
    faults.volumes.append(chance.choice(sorted(VOLUME_FAULTS)))
    return f"volumes {faults.volumes[-1]}"


def _rights(chance: Random, faults: Faults, _family: Family) -> str:
    faults.lacking_rights.append(chance.choice(sorted(set(RIGHTS.values()))))
    return f"lacking {faults.lacking_rights[-1]}"


def _clocks(chance: Random, faults: Faults, _family: Family) -> str:
    faults.clock_skew_s[chance.choice(["central", "element"])] = chance.choice([-7200.0, -60.0, 60.0, 7200.0])
    return f"clocks {faults.clock_skew_s}"


def _counted(name: str) -> Trouble:
    def arm(chance: Random, faults: Faults, _family: Family) -> str:
        kind = chance.choice(typing.get_args(TaskKind))
        getattr(faults, name)[kind] = chance.choice([1, 1, 2])
        return f"{name} {kind}"

    return arm


def _switch(name: str) -> Trouble:
    def arm(_chance: Random, faults: Faults, _family: Family) -> str:
        setattr(faults, name, True)
        return name

    return arm


TROUBLES: dict[str, Trouble] = {
    "http": _http,
    "answers": _answers,
    "regions": _regions,
    "tasks": _tasks,
    "lists": _lists,
    "etags": _etags,
    "logins": _logins,
    "volumes": _volumes,
    "lacking_rights": _rights,
    "clock_skew_s": _clocks,
    "fail_tasks": _counted("fail_tasks"),
    "stuck_tasks": _counted("stuck_tasks"),
    **{field.name: _switch(field.name) for field in dataclasses.fields(Faults) if field.default is False},
}

_WEIGHTS = {"http": 8, "answers": 3, "fail_tasks": 2, "stuck_tasks": 2}


def make_trouble(chance: Random, faults: Faults, family: Family) -> list[str]:
    """Arm none, one or a few faults; return what they are."""
    names = list(TROUBLES)
    weights = [_WEIGHTS.get(name, 1) for name in names]
    chosen = chance.choices(names, weights, k=chance.choice([0, 1, 1, 1, 2, 2, 3, 4]))
    return [TROUBLES[name](chance, faults, family) for name in chosen]


def end_trouble(config: SimConfig) -> None:
    """Switch everything off, in the script that the simulator looks at."""
    _calm(config.faults, Faults())


def _calm(faults: object, calm: object) -> None:
    """Set every field as it is in `calm`; parts of the script that are objects stay the same objects."""
    assert dataclasses.is_dataclass(faults)
    for field in dataclasses.fields(faults):
        now, then = getattr(faults, field.name), getattr(calm, field.name)
        if dataclasses.is_dataclass(now):
            _calm(now, then)
        else:
            setattr(faults, field.name, then)
