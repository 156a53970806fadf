"""What a policy keeps, and why: rules one by one, and 400 nights against a model that is written from definitions."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import OptionsError
from ntxengine.repository import Hold
from ntxengine.repository.layout import new_point_id
from ntxengine.retention import Candidate, Policy, decide
from tests.retention.model import UNITS, Clock, Event, berlin, keeps, utc

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
ROUNDS = int(os.environ.get("NTX_RETENTION_ROUNDS", "6"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def points(*times: str, **more: Any) -> list[Candidate]:
    """Return points that were frozen then, in this order."""
    ids = (f"20261101T{number:06d}Z-000000" for number in itertools.count())
    return [Candidate(point_id, at(text), **more) for point_id, text in zip(ids, times, strict=False)]


def reasons(policy: Policy, candidates: list[Candidate]) -> list[str]:
    return [", ".join(each.reasons) for each in decide(policy, candidates, NOW)]


def test_the_newest_of_each_day_is_kept_and_days_without_points_are_not_counted() -> None:
    found = points("2026-11-01T00Z", "2026-11-01T23Z", "2026-11-12T04Z", "2026-11-13T04Z", "2026-11-13T05Z")

    assert reasons(Policy(daily=2), found) == ["", "", "daily 2026-11-12", "", "daily 2026-11-13"]
    assert reasons(Policy(daily=9), found)[:2] == ["", "daily 2026-11-01"]


def test_rules_count_on_their_own_and_all_reasons_are_told() -> None:
    found = points("2025-12-31T04Z", "2026-11-23T04:15Z", "2026-11-23T05:15Z", "2026-11-24T04:15Z")
    policy = Policy(last=2, hourly=1, daily=2, weekly=1, monthly=1, yearly=2, within=timedelta(hours=23))

    assert reasons(policy, found) == [
        "yearly 2025",
        "",
        "last 2 of 2, daily 2026-11-23, within 23h of the newest",
        "last 1 of 2, hourly 2026-11-24T04+00:00, daily 2026-11-24, weekly 2026-W48, monthly 2026-11, yearly 2026, "
        "within 23h of the newest",
    ]


def test_a_week_is_that_of_iso_8601_also_at_the_turn_of_the_year() -> None:
    found = points("2026-12-27T23:59Z", "2026-12-28T00Z", "2027-01-03T23:59Z", "2027-01-04T00Z")

    assert reasons(Policy(weekly=3), found) == ["weekly 2026-W52", "", "weekly 2026-W53", "weekly 2027-W01"]


def test_days_are_those_of_the_time_zone_that_is_asked_for() -> None:
    found = points("2026-11-23T22:30Z", "2026-11-23T23:30Z")

    assert reasons(Policy(daily=2), found) == ["", "daily 2026-11-23"]
    assert reasons(Policy(daily=2, time_zone=BERLIN), found) == ["daily 2026-11-23", "daily 2026-11-24"]


def test_the_hour_that_is_there_twice_is_two_hours() -> None:
    found = points("2026-10-25T02:30+02:00", "2026-10-25T02:45+02:00", "2026-10-25T02:30+01:00")

    assert reasons(Policy(hourly=5, time_zone=BERLIN), found) == [
        "",
        "hourly 2026-10-25T02+02:00",
        "hourly 2026-10-25T02+01:00",
    ]


def test_within_is_before_the_newest_point_and_not_before_now() -> None:
    found = points("2020-01-01T00:00Z", "2020-01-01T00:01Z", "2020-01-03T00:01Z")

    assert reasons(Policy(within=timedelta(days=2)), found) == ["", *["within 2d of the newest"] * 2]


def test_a_point_of_a_time_to_come_makes_no_other_too_old() -> None:
    found = points("2026-11-20T12Z", "2026-11-24T12Z", "2026-11-30T11Z", "2027-11-30T12Z")

    assert reasons(Policy(within=timedelta(days=7)), found) == ["", *["within 7d of the newest"] * 3]


def test_a_tag_keeps_and_any_of_several_does() -> None:
    found = [*points("2026-11-01T00Z", tags=("a", "release")), *points("2026-11-01T00Z", "2026-11-02T00Z")[1:]]

    assert reasons(Policy(tags=("b", "release", "a")), found) == [
        "tag a, tag release",
        "the newest whole point of the VM",
    ]


def test_what_is_held_stays_until_that_is_over() -> None:
    held = points("2026-11-01T00Z", hold=Hold(NOW + timedelta(days=1), "audit"))
    over = points(*["2026-11-02T00Z"] * 2, hold=Hold(NOW))[1:]
    last = points(*["2026-11-03T00Z"] * 3)[2:]

    assert reasons(Policy(last=1), [*held, *over, *last]) == [
        "held until 2026-12-01T12:00:00Z (audit)",
        "",
        "last 1 of 1",
    ]


def test_a_point_that_is_not_whole_takes_the_place_of_none_and_stays() -> None:
    whole, *_ = points("2026-11-23T04Z")
    *_, damaged = points("2026-11-23T05Z", "2026-11-23T05Z", problem="damaged")

    assert reasons(Policy(last=1, daily=1), [whole, damaged]) == [
        "last 1 of 1, daily 2026-11-23",
        "damaged: no rule counts it",
    ]


def test_the_last_whole_point_stays_whatever_the_rules_say() -> None:
    found = points("2026-11-23T04Z", "2026-11-24T04Z")

    assert reasons(Policy(tags=("x",)), found) == ["", "the newest whole point of the VM"]
    assert reasons(Policy(tags=("x",)), []) == []


def test_a_clock_that_was_wrong_takes_one_place_and_the_order_is_that_of_the_ids() -> None:
    found = points("2026-11-23T04Z", "2035-01-01T04Z", "2026-11-24T04Z", "2026-11-25T04Z")

    assert reasons(Policy(last=1, daily=3), found) == [
        "",
        "daily 2035-01-01",
        "daily 2026-11-24",
        "last 1 of 1, daily 2026-11-25",
    ]


@pytest.mark.parametrize("rule", ["last", *UNITS])
def test_less_than_nothing_is_refused(rule: str) -> None:
    with pytest.raises(OptionsError, match=f"--keep-{rule} -1: a rule keeps something"):
        Policy(**{"last": 1, rule: -1})  # type: ignore[arg-type]


def test_no_rule_is_never_to_forget_all() -> None:
    for nothing in ({}, {"time_zone": BERLIN}):
        with pytest.raises(OptionsError, match="no rule says what is to stay"):
            Policy(**nothing)  # type: ignore[arg-type]
    for wrong in (timedelta(seconds=-1), timedelta(days=40000)):
        with pytest.raises(OptionsError, match="--keep-within"):
            Policy(within=wrong)


# ---------------------------------------------------------------------------------------------------- against a model


def rules_of(policy: Policy) -> dict[str, Any]:
    return {name: value for name, value in vars(policy).items() if value and name != "time_zone"}


def compare(policy: Policy, events: list[Event], clock: Clock) -> list[Event]:
    """Check what stays, and by which rules; return that."""
    expected = keeps(rules_of(policy), events, clock)
    candidates = [Candidate(event.id, event.at, tuple(event.tags)) for event in events]
    words = {"tag": "tags", "the": "newest"}
    found = {
        each.point_id: {words.get(word, word) for word in (reason.split()[0] for reason in each.reasons)}
        for each in decide(policy, candidates, max([NOW, *(event.at for event in events)]))
    }
    assert found == expected
    return [event for event in events if expected[event.id]]


def schedule(chance: random.Random, first: datetime) -> Iterator[list[datetime]]:
    """Yield when points are frozen, night by night: at odd times, some nights not, and a week not at all."""
    gap = chance.randrange(100, 380)
    for night in range(400):
        start = first + timedelta(days=night)
        count = 0 if gap <= night < gap + 7 else chance.choice([0, 1, 1, 1, 1, 2, 3, 24, 30])
        yield sorted({start + timedelta(seconds=chance.randrange(86400)) for _ in range(count)})


@pytest.mark.parametrize("number", range(ROUNDS))
def test_400_nights_leave_what_the_policy_says(number: int) -> None:
    chance = random.Random(f"{SEED} {number}")
    zone, clock = ((BERLIN, berlin), (UTC, utc))[number % 2]
    some = {rule: chance.choice([0, 1, 2, 4, 7, 12]) for rule in ("last", *UNITS)}
    policy = Policy(**{**some, "last": some["last"] or 1}, tags=("release",), time_zone=zone)  # type: ignore[arg-type]
    if number % 3 == 0:
        policy = Policy(daily=7, weekly=4, monthly=12, yearly=2, within=timedelta(hours=36), time_zone=zone)
    kept: list[Event] = []
    newest: str | None = None

    for frozen in schedule(chance, datetime(2026, 1, 10, 22, tzinfo=UTC)):
        for when in frozen:
            newest = new_point_id(when, after=newest, token=f"{chance.randrange(1 << 24):06x}")
            tags = frozenset({"release"} if chance.random() < 0.02 else ())
            kept.append(Event(newest, when, tags))
        kept = compare(policy, kept, clock)

    assert kept
    rules = rules_of(policy)
    allowed = sum(rules.get(rule, 0) for rule in ("last", *UNITS))
    assert len([event for event in kept if not event.tags]) <= allowed + 60  # of 36 hours, where that is a rule


def test_the_usual_policy_leaves_after_400_nights_what_a_person_expects() -> None:
    policy = Policy(daily=7, weekly=4, monthly=12)
    kept: list[Event] = []

    for night in range(400):
        when = datetime(2026, 1, 1, 1, tzinfo=UTC) + timedelta(days=night)
        kept = compare(policy, [*kept, Event(new_point_id(when, after=None, token="000000"), when)], utc)

    assert [f"{event.at:%Y-%m-%d}" for event in kept] == [
        *["2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30", "2026-07-31", "2026-08-31", "2026-09-30"],
        *["2026-10-31", "2026-11-30", "2026-12-31", "2027-01-17", "2027-01-24", "2027-01-29", "2027-01-30"],
        *["2027-01-31", "2027-02-01", "2027-02-02", "2027-02-03", "2027-02-04"],
    ]


@settings(max_examples=200)
@given(
    frozen=st.lists(
        st.datetimes(datetime(2025, 12, 1), datetime(2027, 11, 30)).map(lambda when: when.replace(tzinfo=UTC)),
        unique_by=lambda when: when.replace(microsecond=0),
        max_size=40,
    ),
    counts=st.fixed_dictionaries({rule: st.integers(0, 5) for rule in ("last", *UNITS)}),
    hours=st.integers(0, 1000),
    is_berlin=st.booleans(),
)
def test_any_points_and_rules_agree_with_the_model(
    frozen: list[datetime], counts: dict[str, int], hours: int, is_berlin: bool
) -> None:
    zone, clock = (BERLIN, berlin) if is_berlin else (UTC, utc)
    policy = Policy(**counts, within=timedelta(hours=hours), tags=("x",), time_zone=zone)  # type: ignore[arg-type]
    events = [Event(new_point_id(when, after=None, token="000000"), when) for when in sorted(frozen)]

    compare(policy, events, clock)
