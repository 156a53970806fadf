"""When a job is due, against a model that looks at every minute; and what is made of windows, jitter and clocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import OptionsError
from ntxengine.schedule.due import CLOCK_TOLERANCE, LATE, Outlook, Place, Schedule, look, places
from ntxengine.schedule.window import is_open, next_opening, parse_window
from tests.schedule.model import MINUTE, Cron, minutes

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)
DB01 = Place("nightly\0db01")

# Days on which clocks are set, and one on which none is.  Lord Howe moves by half an hour, Santiago at midnight.
DAYS = [
    (BERLIN, datetime(2026, 3, 29, tzinfo=UTC)),
    (BERLIN, datetime(2026, 10, 25, tzinfo=UTC)),
    (ZoneInfo("Australia/Lord_Howe"), datetime(2026, 4, 4, tzinfo=UTC)),
    (ZoneInfo("Australia/Lord_Howe"), datetime(2026, 10, 3, tzinfo=UTC)),
    (ZoneInfo("America/Santiago"), datetime(2026, 4, 5, tzinfo=UTC)),
    (ZoneInfo("America/Santiago"), datetime(2026, 9, 6, tzinfo=UTC)),
    (ZoneInfo("UTC"), datetime(2026, 2, 28, tzinfo=UTC)),
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def cron(text: str, **more: Any) -> Schedule:
    return Schedule(cron=text, zone=BERLIN, **more)


def numbers(first: int, last: int) -> st.SearchStrategy[frozenset[int] | None]:
    return st.none() | st.frozensets(st.integers(first, last), min_size=1, max_size=4)


crons = st.builds(
    Cron,
    minute=numbers(0, 59),
    hour=st.none() | st.frozensets(st.integers(0, 4) | st.integers(0, 23), min_size=1, max_size=3),
    day=st.none() | st.frozensets(st.integers(1, 28), min_size=20),
    month=st.none(),
    weekday=st.none() | st.frozensets(st.integers(0, 6), min_size=3),
)


@settings(max_examples=60)
@given(expression=crons, day=st.sampled_from(DAYS), minute=st.integers(0, 2 * 1440), second=st.integers(0, 59))
def test_cron_is_due_when_the_model_says(
    expression: Cron, day: tuple[ZoneInfo, datetime], minute: int, second: int
) -> None:
    zone, midnight = day
    if zone.key == "Australia/Lord_Howe":  # LIMIT of CronSim, see due.py
        expression = replace(
            expression, minute=expression.minute or frozenset([7]), hour=expression.hour or frozenset([2])
        )
    begin, end = midnight - timedelta(days=3), midnight + timedelta(days=4)
    when = midnight - timedelta(days=1) + minute * MINUTE + timedelta(seconds=second)
    schedule = Schedule(cron=expression.text, zone=zone)

    expected = expression.times(begin, end, zone)
    later = [each for each in expected if each > when]
    earlier = [each for each in expected if each <= when]

    if later:
        assert schedule.due_after(when) == later[0]
    if earlier:
        assert schedule.due_until(when) == earlier[-1]


def test_a_time_that_a_clock_shows_twice_is_due_once_and_one_that_there_is_not_is_due_later() -> None:
    nightly, often = cron("30 2 * * *"), cron("*/30 * * * *")

    assert nightly.due_after(at("2026-10-24T20:00Z")) == at("2026-10-25T00:30Z")
    assert nightly.due_after(at("2026-10-25T00:30Z")) == at("2026-10-26T01:30Z")
    assert nightly.due_after(at("2026-03-28T20:00Z")) == at("2026-03-29T01:00Z")
    assert often.due_after(at("2026-10-25T00:30Z")) == at("2026-10-25T01:00Z")


@settings(max_examples=60)
@given(
    every=st.integers(1, 3 * 1440).map(lambda n: n * MINUTE),
    when=st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)),
)
def test_a_rhythm_is_kept_to_the_second_whenever_it_is_looked_at(every: timedelta, when: datetime) -> None:
    schedule = Schedule(every=every, zone=BERLIN)
    now = when.replace(tzinfo=UTC)

    due = schedule.due_until(now)

    assert due <= now < schedule.due_after(now) == due + every
    assert (due - at("2024-01-01T00:00+01:00")) % every == timedelta(0)


@settings(max_examples=80)
@given(
    schedule=st.builds(
        Schedule,
        every=st.integers(2, 200).map(lambda n: n * MINUTE),
        jitter=st.integers(0, 119).map(lambda n: timedelta(seconds=n)),
    )
    | st.builds(cron, st.sampled_from(["*/5 * * * *", "0 2 * * *", "0,1 3 * * 1-5"]), jitter=st.just(30 * MINUTE)),
    share=st.floats(0, 1, exclude_max=True),
    when=st.datetimes(datetime(2026, 3, 1), datetime(2026, 4, 30)),
)
def test_a_start_lies_between_its_due_time_and_the_next(schedule: Schedule, share: float, when: datetime) -> None:
    vm = Place("job\0vm", share)
    due = schedule.due_until(when.replace(tzinfo=UTC))

    start = schedule.starts_at(due, vm)

    assert due <= start < schedule.due_after(due)
    assert start == schedule.starts_at(due, vm)
    assert schedule.last_start(start, vm) == due
    assert schedule.last_start(start - timedelta(seconds=1), vm) < due


def test_the_vms_of_a_job_are_spread_evenly_and_hardly_move_when_one_comes() -> None:
    before = places("hourly", [f"vm{number}" for number in range(100)])
    after = places("hourly", [f"vm{number}" for number in range(101)])

    assert sorted(place.share for place in before.values()) == [number / 100 for number in range(100)]
    assert all(abs(after[vm_id].share - place.share) < 0.02 for vm_id, place in before.items())
    assert places("hourly", ["db01"])["db01"].share == 0


# ------------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize("text", ["22:00-06:00", "mon-fri 02:30-03:30", "sun 01:00-02:30", "sat,sun 00:00-24:00"])
@pytest.mark.parametrize(("zone", "midnight"), DAYS, ids=str)
def test_a_window_opens_in_the_first_minute_in_which_it_is_open(text: str, zone: ZoneInfo, midnight: datetime) -> None:
    windows = [parse_window(text)]
    span = minutes(midnight - timedelta(days=2), midnight + timedelta(days=10))
    opening = None

    for when in reversed(span):
        opening = when if is_open(windows, when, zone) else opening
        if opening is not None and (when.minute % 10 == 7 or opening - when < 2 * MINUTE):
            assert next_opening(windows, when, zone) == opening


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    window = parse_window("fri 22:00-06:00")

    assert window.contains(datetime(2026, 11, 28, 5, 59))  # Saturday morning
    assert not window.contains(datetime(2026, 11, 27, 5, 59))
    assert not window.contains(datetime(2026, 11, 28, 22, 0))
    assert str(window) == "fri 22:00-06:00"


# ---------------------------------------------------------------------------------------------- what is to be done


def test_a_vm_that_is_new_waits_for_its_next_start() -> None:
    found = look(cron("0 2 * * *"), DB01, None, at("2026-11-30T12:00Z"))

    assert found == Outlook(handled=at("2026-11-30T01:00Z"), wakes_at=at("2026-12-01T01:00Z"))


def test_what_is_late_is_run_once_or_skipped() -> None:
    handled, now = at("2026-11-23T01:00Z"), at("2026-11-30T12:00Z")

    late = look(cron("0 2 * * *"), DB01, handled, now)
    skipped = look(cron("0 2 * * *", missed="skip"), DB01, handled, now)
    seen = look(cron("0 2 * * *", missed="skip"), DB01, handled, now, is_known=True)

    assert late.due == seen.due == at("2026-11-30T01:00Z")
    assert skipped == Outlook(at("2026-11-30T01:00Z"), at("2026-12-01T01:00Z"), skipped=True)


def test_a_clock_that_is_set_back_neither_stops_a_job_nor_repeats_a_run() -> None:
    schedule, handled = Schedule(every=15 * MINUTE), at("2026-11-30T12:00Z")

    by_seconds = look(schedule, DB01, handled, at("2026-11-30T11:59:57Z"))
    by_a_day = look(schedule, DB01, handled, at("2026-11-29T12:01Z"))

    assert by_seconds.due is None
    assert by_seconds.wakes_at == at("2026-11-30T12:15Z")
    assert by_a_day.due is None
    assert by_a_day.wakes_at == at("2026-11-29T12:15Z")


def test_a_clock_that_goes_forward_a_week_costs_one_run() -> None:
    schedule, handled = Schedule(every=15 * MINUTE), at("2026-11-30T12:00Z")

    found = look(schedule, DB01, handled, handled + timedelta(days=7, minutes=1))

    assert found.due == handled + timedelta(days=7)
    assert look(schedule, DB01, found.due, handled + timedelta(days=7, minutes=2)).due is None


def test_what_is_due_outside_of_its_windows_waits_for_the_opening_or_is_skipped() -> None:
    windows, handled = (parse_window("22:00-06:00"),), at("2026-11-30T06:00Z")

    waits = look(cron("0 12 * * *", windows=windows), DB01, handled, at("2026-11-30T11:30Z"))
    opened = look(cron("0 12 * * *", windows=windows), DB01, handled, waits.wakes_at)
    skipped = look(cron("0 12 * * *", windows=windows, missed="skip"), DB01, handled, at("2026-11-30T11:30Z"))

    assert waits == Outlook(handled, at("2026-11-30T21:00Z"), waits_for_window=True)
    assert opened.due == at("2026-11-30T11:00Z")
    assert skipped.skipped


steps = st.lists(
    st.tuples(st.just("on"), st.integers(1, 300))
    | st.tuples(st.just("off"), st.integers(1, 3000))
    | st.tuples(st.just("clock"), st.integers(-3000, 10000)),
    min_size=1,
    max_size=8,
)
schedules = st.builds(
    Schedule,
    every=st.sampled_from([15 * MINUTE, HOUR, 24 * HOUR]),
    jitter=st.sampled_from([timedelta(0), 2 * MINUTE]),
    windows=st.sampled_from([(), (parse_window("22:00-06:00"),), (parse_window("mon-fri 01:00-02:15"),)]),
    missed=st.sampled_from(["once", "skip"]),
    zone=st.just(BERLIN),
) | st.builds(
    cron,
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 12 * * 1-5"]),
    jitter=st.sampled_from([timedelta(0), 20 * MINUTE]),
    windows=st.sampled_from([(), (parse_window("01:00-03:00"),)]),
    missed=st.sampled_from(["once", "skip"]),
)


@settings(max_examples=80)
@given(schedule=schedules, steps=steps, share=st.sampled_from([0, 0.3, 0.99]))
def test_no_due_time_is_lost_or_run_twice_whatever_the_agent_and_the_clock_do(
    schedule: Schedule, steps: list[tuple[str, int]], share: float
) -> None:
    """The agent looks every minute while it is on; runs take no time.  The model knows only starts and windows."""
    vm, now, handled = Place("job\0vm", share), at("2026-10-20T12:00Z"), None
    longest = (schedule.every or 72 * HOUR) + schedule.jitter + 8 * 24 * HOUR * bool(schedule.windows)

    for what, amount in steps:
        if what != "on":
            now += amount * MINUTE
            continue
        for minute in minutes(now, now + amount * MINUTE):
            now = minute
            found = look(schedule, vm, handled, now)
            newest, opened = schedule.last_start(now, vm), is_open(schedule.windows, now, schedule.zone)
            if handled is None or handled > now + CLOCK_TOLERANCE or newest <= handled:
                assert found.due is None
            elif schedule.missed == "once":
                assert found.due == (newest if opened else None)
            else:
                in_time = opened and now - schedule.starts_at(newest, vm) <= LATE
                assert found.due == (newest if in_time else None)
                assert found.skipped == (not in_time)
            assert now < found.wakes_at <= now + longest
            handled = found.due or found.handled
            assert handled <= now + CLOCK_TOLERANCE


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "give one of them"),
        ({"every": HOUR, "cron": "0 2 * * *"}, "give one of them"),
        ({"every": timedelta(seconds=1)}, "1s is less than 1m"),
        ({"every": HOUR, "jitter": HOUR}, "1h is not shorter than every 1h"),
        ({"every": timedelta(days=367)}, "367d is more than 366d"),
        ({"cron": "0 2 * * *", "jitter": timedelta(hours=24, seconds=1)}, "1d1s is more than 1d"),
        ({"cron": "0 2 * *"}, "has 4 fields"),
        ({"cron": "0 0 2 * * *"}, "has 6 fields"),
        ({"cron": "0 99 * * *"}, "bad hour"),
        ({"cron": "0 2 31 2 *"}, "bad day-of-month"),
        ({"every": HOUR, "missed": "twice"}, "must be one of once, skip"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_clear_line(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        Schedule(**wrong)


@pytest.mark.parametrize(
    "text", ["", "22-6", "25:00-26:00", "22:00-22:00", "24:00-06:00", "mon- 01:00-02:00", "x 01:00-02:00"]
)
def test_a_window_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_window(text)
