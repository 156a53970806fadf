"""When to ask again, and after how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ntxengine.prism.http.retry import MAX_SANE_WAIT_S, RetryPolicy


def retries(status: int, *, is_plain_text: bool = False, is_repeatable: bool = True) -> int:
    return RetryPolicy().retries_after(status, is_plain_text=is_plain_text, is_repeatable=is_repeatable)


def test_a_refusal_for_rate_is_repeated_even_if_twice_would_do_harm() -> None:
    assert retries(429, is_repeatable=False) == 7


@pytest.mark.parametrize(
    ("status", "is_plain_text"), [(408, False), (503, False), (504, False), (500, True), (502, True), (500, False)]
)
def test_an_unclear_answer_is_repeated_only_if_that_does_no_harm(status: int, is_plain_text: bool) -> None:
    assert retries(status, is_plain_text=is_plain_text) > 0
    assert retries(status, is_plain_text=is_plain_text, is_repeatable=False) == 0


def test_an_error_of_the_service_itself_is_repeated_a_few_times() -> None:
    assert retries(500) == 3


@pytest.mark.parametrize(("status", "is_plain_text"), [(501, True), (501, False), (404, True), (422, False)])
def test_a_clear_no_is_final(status: int, is_plain_text: bool) -> None:
    assert retries(status, is_plain_text=is_plain_text) == 0


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(first_wait_s=1, longest_wait_s=5)

    waits = [policy.wait_s(retry, {}, 0.0) for retry in range(5)]

    assert waits == [1, 2, 4, 5, 5]


def test_chance_only_makes_a_wait_longer() -> None:
    assert RetryPolicy(first_wait_s=2).wait_s(0, {}, 0.999) == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "86400"}, 0.5),
        ({"retry-after": "-3"}, 0.5),
        ({"retry-after": "soon"}, 0.5),
        ({"x-api-ratelimit-remaining": "0", "x-api-ratelimit-refresh-period-seconds": "2"}, 2.0),
        ({"x-api-ratelimit-remaining": "5", "x-api-ratelimit-refresh-period-seconds": "2"}, 0.5),
        ({"x-api-ratelimit-remaining": "0", "x-api-ratelimit-reset": "183"}, 0.5),
    ],
)
def test_a_sane_wait_that_prism_asks_for_is_kept(headers: dict[str, str], wait_s: float) -> None:
    assert RetryPolicy().wait_s(0, headers, 0.0) == wait_s


def test_a_date_to_wait_for_is_kept() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)

    assert 25 < RetryPolicy().wait_s(0, {"retry-after": when}, 0.0) <= MAX_SANE_WAIT_S
