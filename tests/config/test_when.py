"""What the file takes of a schedule is what the agent takes: no text passes the one and not the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntxengine.agent import schedule
from ntxengine.agent.queue import MAX_PRIORITY
from ntxengine.agent.schedule import Schedule
from ntxengine.agent.window import parse_window
from ntxengine.config import when
from ntxengine.errors import OptionsError
from ntxengine.units import parse_span


def takes(check: Callable[[str], object], text: str) -> bool:
    try:
        check(text)
    except (ValueError, OptionsError):
        return False
    return True


@pytest.mark.parametrize("text", ["22:00-06:00", "mon-fri 20:00-24:00", "SAT,sun 00:00-24:00", "fri-mon 1:00-2:00"])
@given(changed=st.text(alphabet="0123456789:-, monfrisat", max_size=4), at=st.integers(0, 20))
def test_a_window_is_one_for_both(text: str, changed: str, at: int) -> None:
    for each in (text, text[:at] + changed + text[at + len(changed) :], changed):
        assert takes(when.check_window, each) == takes(parse_window, each), each


@given(st.one_of(st.text(alphabet="0123456789*/,- MONL#", max_size=16), st.just("0 2 * * *"), st.just("0 0 30 2 *")))
def test_a_cron_is_one_for_both(text: str) -> None:
    assert takes(when.check_cron, text) == takes(lambda cron: Schedule(cron=cron), text) or not text


@given(st.from_regex(r"[0-9]{1,4}[smhdw]", fullmatch=True))
def test_a_rhythm_is_one_for_both(text: str) -> None:
    assert takes(when.check_every, text) == takes(lambda every: Schedule(every=parse_span(every)), text)


def test_the_limits_are_the_same() -> None:
    ours = (when.MIN_EVERY, when.MAX_EVERY, when.MAX_JITTER, MAX_PRIORITY)

    assert ours == (schedule.MIN_EVERY, schedule.MAX_EVERY, schedule.MAX_JITTER, 100)
