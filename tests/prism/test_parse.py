"""Values of a cluster that Python cannot hold: left out where nothing is decided by them, never a traceback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntxengine.errors import PrismAnswerError
from ntxengine.prism.http.parse import decode, decode_object, time_from, time_from_msecs
from ntxengine.prism.http.retry import RetryPolicy


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-11-23T06:15:25.920305Z", datetime(2026, 11, 23, 6, 15, 25, 920305, UTC)),
        ("2092-01-02T03:04:05+00:00", datetime(2092, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-01T01:00:00+02:00", datetime(2025, 12, 31, 23, tzinfo=UTC)),
        ("2026-01-01T01:00:00", datetime(2026, 1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("9999-12-31T23:59:59-01:00", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("10000-01-01T00:00:00Z", None),
        ("0000-00-00T00:00:00Z", None),
        ("2026-02-30T00:00:00Z", None),
        ("never", None),
        ("", None),
        (0, None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_a_time_that_cannot_be_held_is_none(text: object, when: datetime | None) -> None:
    assert time_from(text) == when


@given(st.one_of(st.text(), st.datetimes(timezones=st.timezones()).map(str), st.integers(), st.floats(), st.none()))
def test_no_time_of_prism_is_a_traceback(value: object) -> None:
    found = [time_from(value), time_from_msecs(value)]

    assert all(when is None or when.utcoffset() == timedelta(0) for when in found)


@pytest.mark.parametrize("deep", [b"[" * 900 + b"]" * 900, b'{"a":' * 300 + b"1" + b"}" * 300])
def test_an_object_that_could_not_be_written_again_is_refused(deep: bytes) -> None:
    with pytest.raises(PrismAnswerError, match="more than 100 deep"):
        decode_object(b'{"a":%b}' % deep, request="GET /x")


def test_an_object_of_usual_depth_is_taken() -> None:
    assert decode_object(b'{"a":%b}' % (b"[" * 90 + b"]" * 90), request="GET /x").keys() == {"a"}


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2020 00:00:00 +99999999999999",
        "9" * 400,
        "-1",
        "\u00b2",
        "nan",
    ],
)
def test_no_header_about_waiting_is_a_traceback(text: str) -> None:
    headers = {"retry-after": text, "x-api-ratelimit-remaining": "0", "x-api-ratelimit-refresh-period-seconds": text}

    assert RetryPolicy(first_wait_s=0.5).wait_s(0, headers, 0.0) == 0.5


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_an_answer_without_a_body_is_called_empty(body: bytes) -> None:
    with pytest.raises(PrismAnswerError, match=r"^GET /x: the answer is empty$"):
        decode(body, dict[str, Any], request="GET /x")
