"""What an error leaves to do: how often, how late, and how long others wait for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ntxengine.agent.records import Retry
from ntxengine.agent.retries import PRISM, Holds, Retries, Verdict, judge, next_try
from ntxengine.errors import PrismConnectionError, ToolError

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def tried(attempt: int, earlier: Retry | None, *, budget: timedelta) -> Retry | None:
    retries = Retries(attempts=9, budget=budget)
    verdict = judge(ToolError("no"), "/backups")
    return next_try(verdict, retries, attempt=attempt, earlier=earlier, due=NOW, now=NOW, chance=0.0)


def test_no_try_begins_later_than_the_budget_after_the_first_that_failed() -> None:
    earlier = Retry(2, NOW, NOW - 10 * MINUTE, NOW)

    assert tried(2, earlier, budget=12 * MINUTE) == Retry(3, NOW + 2 * MINUTE, NOW - 10 * MINUTE, NOW)
    assert tried(2, earlier, budget=11 * MINUTE) is None


def test_the_budget_of_what_was_interrupted_begins_with_its_first_error() -> None:
    earlier = Retry(2, NOW, NOW - 10 * MINUTE, NOW, was_interrupted=True)

    found = tried(2, earlier, budget=5 * MINUTE)

    assert found is not None
    assert found.since == NOW


def test_runs_that_were_on_their_way_make_nobody_wait_longer_and_each_try_doubles_it() -> None:
    holds, verdict = Holds(), judge(PrismConnectionError("no"), "/backups")

    def fail(at_s: float) -> float:
        holds.failed(verdict, "no", now=NOW, monotonic=at_s)
        return holds.all[PRISM].until - at_s

    assert [fail(at_s) for at_s in (0, 1, 2, 3)] == [30] * 4
    assert [fail(at_s) for at_s in (100, 200, 400, 800, 1600)] == [60, 120, 240, 300, 300]


def test_what_passed_begins_to_be_counted_anew() -> None:
    holds, verdict = Holds(), Verdict(scope=PRISM, needs=2)

    first = holds.failed(verdict, "silent", now=NOW, monotonic=0)
    holds.passed(PRISM)
    second = holds.failed(verdict, "silent", now=NOW, monotonic=1)
    third = holds.failed(verdict, "silent", now=NOW, monotonic=2)

    assert (first, second, third) == (False, False, True)
