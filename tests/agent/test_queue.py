"""What begins and what waits: limits, priorities, nothing starves."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.agent.queue import PRIORITY_STEP, RESERVE_AFTER, Busy, Limits, Needs, Wanted, decide
from ntxengine.errors import OptionsError

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def wanted(name: str, *, job: str = "hourly", waited: int = 0, **more: Any) -> Wanted:
    return Wanted(job, name, name, NOW - waited * MINUTE, **more)


def busy(name: str, **needs: Any) -> Busy:
    return Busy("hourly", name, Needs(**needs))


def started(*each: Wanted, runs: tuple[Busy, ...] = (), **limits: int) -> list[str]:
    return [one.vm_id for one in decide(each, runs, Limits(**limits), NOW).starts]


def reason(each: Wanted, *runs: Busy, **limits: int) -> str:
    (waiting,) = decide([each], runs, Limits(**limits), NOW).waits
    return waiting.reason


def test_the_oldest_begins_first_and_a_step_of_priority_is_worth_ten_minutes() -> None:
    assert started(wanted("a", waited=1), wanted("b", waited=2), total=1) == ["b"]
    assert started(wanted("a", waited=1, priority=1), wanted("b", waited=10), total=1) == ["a"]
    assert started(wanted("a", waited=1, priority=1), wanted("b", waited=12), total=1) == ["b"]
    assert started(wanted("a", is_asked_for=True), wanted("b", waited=999, priority=99), total=1) == ["a"]


def test_why_a_run_waits_is_told_in_words() -> None:
    host = Needs(host="AHV-1", containers=("default",), cluster="prod", target="/backups")

    assert reason(wanted("a"), busy("b"), total=1) == "1 of 1 runs at a time"
    assert reason(wanted("a", job="daily"), busy("a")) == "VM 'a' is in a run of job 'hourly'"
    assert (
        reason(wanted("a", needs=host), busy("b", host="AHV-1"), per_host=1) == "host 'AHV-1' has 1 of 1 runs at a time"
    )
    assert "container 'default' has 1" in reason(
        wanted("a", needs=host), busy("b", containers=("default", "fast")), per_container=1
    )
    assert reason(wanted("a", obstacle="job 'hourly' is paused")) == "job 'hourly' is paused"


def test_what_a_limit_stops_does_not_stop_what_is_behind_it() -> None:
    first, second = wanted("a", waited=5, needs=Needs(host="AHV-1")), wanted("b", needs=Needs(host="AHV-2"))

    assert started(first, second, runs=(busy("c", host="AHV-1"),), per_host=1) == ["b"]


def test_what_has_waited_for_long_gets_what_it_needs_before_those_behind_it() -> None:
    both = Needs(host="AHV-1", containers=("default",))
    old = wanted("old", waited=31, needs=both)
    young = wanted("young", needs=Needs(containers=("default",)))
    runs = (busy("c", host="AHV-1"),)

    decision = decide([old, young], runs, Limits(per_host=1, per_container=1), NOW)

    assert not decision.starts
    assert decision.waits[1].reason == "container 'default' is reserved for VM 'old', which has waited for long"
    assert started(replace(old, obstacle="paused"), young, runs=runs, per_host=1, per_container=1) == ["young"]


def test_one_run_at_a_time_finds_out_whether_an_outage_is_over() -> None:
    held = ("Prism is down",)

    decision = decide([wanted("a", probes=held), wanted("b", probes=held), wanted("c")], [], Limits(), NOW)

    assert [each.vm_id for each in decision.starts] == ["a", "c"]
    assert decision.waits[0].reason == "another run finds out whether Prism is down is over"


names = st.sampled_from(["", "1", "2"])
needs = st.builds(Needs, cluster=names, host=names, containers=st.lists(names, max_size=2).map(tuple), target=names)
vm_ids = st.sampled_from([f"vm{number}" for number in range(12)])
wants = st.builds(
    lambda vm_id, job, waited, priority, needs: wanted(vm_id, job=job, waited=waited, priority=priority, needs=needs),
    vm_ids,
    st.sampled_from(["hourly", "daily"]),
    st.integers(0, 90),
    st.integers(-3, 3),
    needs,
)
limits = st.builds(
    Limits,
    total=st.integers(1, 5),
    **{f"per_{kind}": st.integers(0, 3) for kind in ("cluster", "host", "container", "target")},
)


@settings(max_examples=200)
@given(
    wants=st.lists(wants, max_size=20),
    runs=st.lists(st.builds(Busy, st.just("x"), vm_ids, needs), max_size=3),
    limits=limits,
)
def test_no_limit_is_exceeded_and_no_vm_runs_twice(wants: list[Wanted], runs: list[Busy], limits: Limits) -> None:
    runs = list({run.vm_id: run for run in runs}.values())

    decision = decide(wants, runs, limits, NOW)

    after: list[Busy | Wanted] = [*runs, *decision.starts]
    used = Counter(use for each in after for use in each.needs.uses())
    before = Counter(use for each in runs for use in each.needs.uses())
    assert len(decision.starts) + len(decision.waits) == len(wants)
    assert len(after) <= max(limits.total, len(runs))
    assert len({each.vm_id for each in after}) == len(after)
    for use, count in used.items():
        most = getattr(limits, f"per_{use[0]}")
        assert not most or count <= max(most, before[use])
    assert all(waiting.reason for waiting in decision.waits)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_starves_however_much_comes_later(seed: int) -> None:
    """One VM that needs everything, among important ones that each need a little and come without end."""
    chance = random.Random(seed)
    poor = Wanted("daily", "poor", "poor", NOW, needs=Needs("1", "1", ("1", "2"), "1"), priority=-3)
    few = Limits(total=chance.randint(3, 5), per_cluster=1, per_host=1, per_container=1, per_target=1)
    kinds = [{"host": "1"}, {"containers": ("1",)}, {"containers": ("2",)}, {"target": "1"}, {"cluster": "1"}]
    running: list[tuple[datetime, Busy]] = []
    waiting, now = [poor], NOW

    while poor in waiting:
        now += MINUTE
        running = [(end, each) for end, each in running if end > now]
        for kind in kinds:  # each of them has one that runs and one that waits, always
            if not any(each.needs == Needs(**kind) for each in waiting):
                waiting.append(Wanted("hourly", f"{now} {kind}", "rich", now, priority=3, needs=Needs(**kind)))
        for each in decide(waiting, [each for _, each in running], few, now).starts:
            running.append((now + chance.randint(1, 9) * MINUTE, Busy(each.job, each.vm_id, each.needs)))
            waiting.remove(each)

        assert now - NOW <= 6 * PRIORITY_STEP + RESERVE_AFTER + 60 * MINUTE


def test_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(OptionsError, match="at least one"):
        Limits(total=0)
    with pytest.raises(OptionsError, match="per_host -1"):
        Limits(per_host=-1)
