"""What a session asks again, for how long, and what a no then proves."""

from __future__ import annotations

import pytest

from ntxengine import errors
from ntxengine.prism.http.session import Request, Session, tls_context
from tests.prism.hostile import HandClock, Hostile, reply

GET = Request("GET", "/thing")
CHANGE = Request("POST", "/thing", body={"a": 1}, is_repeatable=False)


async def test_429_is_waited_out_as_long_as_prism_asks(hostile: Hostile, session: Session, clock: HandClock) -> None:
    hostile.on("GET /thing", reply(429, {}, Retry_After="4"), reply(503, {}), reply(200, {"a": 1}))

    answer = await session.ask(GET)

    assert answer.decode(dict[str, int]) == {"a": 1}
    assert clock.slept == [4.0, 1.0]


async def test_retries_of_429_end_as_busy(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(429, {}))

    with pytest.raises(errors.PrismBusy, match="asked 4 times; try again later") as busy:
        await session.ask(GET)

    assert busy.value.exit_code == 75
    assert len(hostile.asked) == 4


async def test_retries_of_504_end_as_a_time_out(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(504, {}))

    with pytest.raises(errors.PrismTimeout, match="asked 4 times"):
        await session.ask(GET)


async def test_a_person_is_told_once_when_waiting_is_more_than_a_hiccup(
    hostile: Hostile, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.on("GET /thing", reply(503, {}), reply(503, {}), reply(503, {}), reply(200, {"a": 1}))

    with caplog.at_level("WARNING"):
        await session.ask(GET)

    assert len(caplog.records) == 1
    assert "GET /thing: HTTP 503: again in" in caplog.text


async def test_a_plain_text_500_is_asked_again(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(500, b"Internal Server Error"), reply(200, {}))

    assert (await session.ask(GET)).status == 200


async def test_a_plain_text_500_is_final_where_twice_would_do_harm(hostile: Hostile, session: Session) -> None:
    hostile.on("POST /thing", reply(500, b"Internal Server Error"))

    with pytest.raises(errors.PrismStatusError, match="HTTP 500: Internal Server Error"):
        await session.ask(CHANGE)

    assert len(hostile.asked) == 1


async def test_an_error_of_the_service_is_asked_again_and_keeps_its_reason(
    hostile: Hostile, session: Session, clock: HandClock
) -> None:
    broken = reply(500, {"data": {"error": [{"code": "DP-10000", "message": "internal"}]}})
    hostile.on("GET /thing", broken, reply(200, {}), broken)

    assert (await session.ask(GET)).status == 200
    with pytest.raises(errors.PrismStatusError, match="HTTP 500 DP-10000: internal: asked 4 times") as refused:
        await session.ask(GET)

    assert (refused.value.status, len(hostile.asked)) == (500, 6)
    assert clock.slept == [0.5, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("status", [408, 500, 503, 504])
async def test_what_may_have_been_done_is_not_asked_for_twice(hostile: Hostile, session: Session, status: int) -> None:
    hostile.on("POST /thing", reply(status, {}))

    with pytest.raises(errors.PrismError, match=f"HTTP {status}"):
        await session.ask(CHANGE)

    assert len(hostile.asked) == 1


async def test_retries_end_at_the_deadline(hostile: Hostile, ca_file: str, clock: HandClock) -> None:
    hostile.on("GET /thing", reply(503, {}, Retry_After="50"))
    tls = tls_context(ca_file, insecure=False)
    session = Session("127.0.0.1", hostile.port, tls, account=None, timeout_s=5, clock=clock.clock)

    with pytest.raises(errors.PrismBusy, match="asked 4 times"):
        await session.ask(GET)
    await session.aclose()

    assert clock.slept == [50, 50, 50]


# -- what a no to a repeated request proves

BROKEN = b"HTTP/1.1 200 X\r\nX-Close: 1\r\nContent-Length: 5\r\n\r\n"
TWICE = Request("POST", "/thing", body={"a": 1}, is_repeatable=True)


@pytest.mark.parametrize(
    ("first", "may_have_been_done"),
    [
        (reply(504, {}), True),
        (reply(503, {}), True),
        (reply(500, {}), True),
        (reply(408, {}), True),
        (BROKEN, True),
        (reply(429, {}), False),
        (None, False),
    ],
    ids=["504", "503", "500", "408", "broken", "429", "first"],
)
async def test_a_no_says_whether_an_earlier_try_may_have_been_executed(
    hostile: Hostile, session: Session, first: bytes | None, may_have_been_done: bool
) -> None:
    hostile.on("GET /thing", reply(200, {}))
    hostile.on("POST /thing", *([] if first is None else [first]), reply(409, {}))
    await session.ask(GET)

    with pytest.raises(errors.PrismStatusError) as caught:
        await session.ask(TWICE)

    assert caught.value.status == 409
    assert caught.value.may_have_been_done is may_have_been_done
