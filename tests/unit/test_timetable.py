"""Rates by the time of the day: what a person writes, and what holds when, also when the clock is changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.timetable import Timetable, parse_timetable
from ntxengine.errors import OptionsError
from ntxengine.units import MIB

OFFICE = "08:00,50M 19:00,off"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("at", "rate"),
    [("00:00", 0), ("07:59", 0), ("08:00", 50 * MIB), ("18:59", 50 * MIB), ("19:00", 0), ("23:59", 0)],
)
def test_an_entry_holds_until_the_next_also_past_midnight(at: str, rate: int) -> None:
    timetable = parse_timetable(OFFICE)

    assert timetable.rate_at(datetime.fromisoformat(f"2026-11-23T{at}:30")) == rate


def test_entries_may_come_in_any_order_and_their_rates_be_written_as_others() -> None:
    assert parse_timetable(" 19:00,off   8:00,50MiB/s ") == parse_timetable(OFFICE)


@pytest.mark.parametrize(("text", "rate"), [("500M", 500 * MIB), ("off", 0), ("0", 0), (" 1.5M ", 3 * MIB // 2)])
def test_a_rate_alone_holds_all_day(text: str, rate: int) -> None:
    timetable = parse_timetable(text)

    assert {timetable.rate_at(datetime(2026, 11, 23, hour)) for hour in range(24)} == {rate}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "'fast' is not a size"),
        ("08:00", "'08:00' is not a time and a rate, such as 08:00,50M"),
        ("08:00,", "'' is not a size"),
        ("08:00,50M 19:00,fast", "'fast' is not a size"),
        ("08:00,50M, 19:00,off", "is not a size"),
        ("08:00,50M at 19:00,off", "'at' is not a time and a rate"),
        ("24:00,50M 19:00,off", "'24:00' is not a time of the day: write 00:00 to 23:59"),
        ("08:60,50M 19:00,off", "'08:60' is not a time of the day"),
        ("08:00,50M 8:00,off", "has two rates from 08:00 on"),
        ("08:00,50M", "would be the rate of all day: write 50M alone"),
        ("99999999999G", "is not from 0"),
        ("08:00,99999999999G 19:00,off", "is not from 0"),
        ("", "'' is not a size"),
        ("\u0660\u0668:00,50M 19:00,off", "is not a size"),
        (f"08:00,{'9' * 5000} 19:00,off", "is not a size"),
    ],
)
def test_what_is_none_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse_timetable(text)

    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_shown_as_it_was_meant() -> None:
    assert str(parse_timetable(OFFICE)) == "08:00 50.0 MiB/s, 19:00 off"
    assert str(parse_timetable("1G")) == "1.0 GiB/s"


class Clock:
    """The clock on a wall in Berlin, and the seconds beside it."""

    def __init__(self, began: datetime) -> None:
        self.began = began.astimezone(UTC)
        self.seconds = 0.0

    def wall(self) -> datetime:
        return (self.began + timedelta(seconds=self.seconds)).astimezone(BERLIN).replace(tzinfo=None)

    def clock(self) -> float:
        return self.seconds


def rates(timetable: Timetable, began: datetime, *, hours: float, step_s: float = 600) -> Iterator[tuple[str, int]]:
    """Yield the time in UTC and the new rate, whenever it changes."""
    clock = Clock(began)
    bandwidth = Bandwidth(timetable, wall=clock.wall, clock=clock.clock)
    last = None
    while clock.seconds < hours * 3600:
        bandwidth.keep()
        if bandwidth.rate != last:
            last = bandwidth.rate
            yield (clock.began + timedelta(seconds=clock.seconds)).strftime("%H:%M"), last
        clock.seconds += step_s


def test_the_rate_changes_when_the_wall_clock_says_so() -> None:
    began = datetime(2026, 11, 23, 6, tzinfo=BERLIN)

    changes = list(rates(parse_timetable(OFFICE), began, hours=24))

    assert changes == [("05:00", 0), ("07:00", 50 * MIB), ("18:00", 0)]


def test_an_entry_in_the_hour_that_spring_leaves_out_begins_with_the_next() -> None:
    began = datetime(2026, 3, 29, 0, tzinfo=BERLIN)  # 02:00 becomes 03:00 at 01:00 UTC

    changes = list(rates(parse_timetable("02:30,10M 04:00,off"), began, hours=6))

    assert changes == [("23:00", 0), ("01:00", 10 * MIB), ("02:00", 0)]


def test_in_the_hour_that_autumn_repeats_the_wall_clock_decides_both_times() -> None:
    began = datetime(2026, 10, 25, 0, tzinfo=BERLIN)  # 03:00 becomes 02:00 at 01:00 UTC

    changes = list(rates(parse_timetable("02:30,10M 04:00,off"), began, hours=6))

    assert changes == [("22:00", 0), ("00:30", 10 * MIB), ("01:00", 0), ("01:30", 10 * MIB), ("03:00", 0)]


def test_a_clock_that_is_set_back_is_followed() -> None:
    clock = Clock(datetime(2026, 11, 23, 8, tzinfo=BERLIN))
    bandwidth = Bandwidth(parse_timetable(OFFICE), wall=clock.wall, clock=clock.clock)
    assert bandwidth.rate == 50 * MIB

    clock.began -= timedelta(hours=1)
    clock.seconds += 2
    bandwidth.keep()

    assert bandwidth.rate == 0


def test_options_made_of_options_share_the_limit() -> None:
    options = CopyOptions(bandwidth=MIB)
    shared = Bandwidth(MIB)

    assert options.limiter is not None
    assert options.on(None).limiter is options.limiter
    assert CopyOptions(bandwidth=MIB).limiter is not options.limiter
    assert CopyOptions(bandwidth=shared).limiter is CopyOptions(bandwidth=shared, connections=2).limiter
    assert CopyOptions(bandwidth=parse_timetable(OFFICE)).limiter is not None
    assert CopyOptions().limiter is None
