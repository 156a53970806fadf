"""Errors that come with status 200: told from answers, retried if they mean busy, refused if not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ntxengine.errors import PrismAnswerError, PrismBusy
from ntxengine.prism.http.hidden_error import hidden_error
from ntxengine.prism.http.session import Request, Session
from tests.prism.hostile import PASSWORD, HandClock, Hostile, reply

GET = Request("GET", "/thing")
CHANGE = Request("POST", "/thing", body={"a": 1}, is_repeatable=False)
MESSAGE = {"message": "come back", "reason": "SERVICE_UNAVAILABLE"}
FLAG = {"$objectType": "common.v1.config.Flag", "name": "hasError", "value": True}
REGION = {"$objectType": "x.ChangedRegion", "offset": 0, "length": 512, "regionType": "REGULAR"}


def flagged(value: Any = True, data: Any = ()) -> dict[str, Any]:
    return {
        "data": list(data),
        "metadata": {"flags": [{"name": "isTruncated", "value": True}, FLAG | {"value": value}]},
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"code": 503, "state": "ERROR", "message_list": [MESSAGE], "api_version": "3.1"}, 503),
        ({"state": "error"}, 0),
        ({"state": "ERROR", "code": "503"}, 0),
        ({"code": 429}, 429),
        ({"message_list": [MESSAGE]}, 0),
        ({"status": "failure", "kind": "x", "code": 503, "message": "no"}, 503),
        ({"data": {"$objectType": "vmm.v4.error.ErrorResponse", "error": None}}, 0),
        ({"data": {"error": [{"code": "VMM-1", "message": "no"}]}}, 0),
        ({"data": {"error": {"statusCode": 503, "error": "Busy"}}}, 503),
        (flagged(), 0),
        (flagged(data=[REGION] * 10_000), 0),
        ({"error_code": {"code": 503, "help_url": "x"}, "message": "no"}, 503),
        ({"error_code": {"code": 7}}, 0),
        ({"status": 500, "error": "Internal Server Error", "path": "/x"}, 500),
    ],
)
def test_an_error_is_known_by_what_no_answer_has(body: Any, status: int) -> None:
    assert hidden_error(msgspec.json.encode(body)) == status


@pytest.mark.parametrize(
    "body",
    [
        {},
        None,
        [],
        "text",
        flagged(value=False),
        flagged(value=None),
        flagged(value=False, data=[REGION] * 10_000),
        {"metadata": {"uuid": "x"}, "status": {"state": "ERROR", "message_list": [MESSAGE]}},
        {"data": {"extId": "x", "status": "FAILED", "errorMessages": [{"message": "no"}]}},
        {"data": {"extId": "x", "error": None}},
        {"message_list": [], "code": 200, "state": "COMPLETE"},
        {"progress_status": "Failed", "meta_response": {"error_code": 5, "error_detail": "no"}},
        {"region_list": [], "file_size": 512, "error_code": None},
        {"status": 500},
        {"metadata": {"flags": {"hasError": True}}},
        {"metadata": [1]},
    ],
)
def test_an_answer_is_no_error(body: Any) -> None:
    assert hidden_error(msgspec.json.encode(body)) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"data":{"error":' + b"[" * 5000, b"<html>"])
def test_what_is_no_json_is_left_to_who_reads_it(body: bytes) -> None:
    assert hidden_error(body) is None


async def test_an_error_with_status_200_is_refused_with_its_reason(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(200, {"state": "ERROR", "code": 404, "message_list": [MESSAGE]}))

    with pytest.raises(PrismAnswerError, match="HTTP 200 with an error in its body SERVICE_UNAVAILABLE: come back"):
        await session.ask(GET)

    assert len(hostile.asked) == 1


async def test_the_flag_of_v4_is_refused_with_the_messages_beside_it(hostile: Hostile, session: Session) -> None:
    body = flagged()
    body["metadata"]["messages"] = [{"code": "DP-10000", "message": "half of it failed"}]
    hostile.on("GET /thing", reply(200, body))

    with pytest.raises(PrismAnswerError, match="DP-10000: half of it failed"):
        await session.ask(GET)


@pytest.mark.parametrize(("request_", "code"), [(GET, 503), (GET, 429), (CHANGE, 429)])
async def test_busy_with_status_200_is_asked_again(
    hostile: Hostile, session: Session, clock: HandClock, request_: Request, code: int
) -> None:
    busy = reply(200, {"state": "ERROR", "code": code, "message_list": [MESSAGE]})
    hostile.on(f"{request_.method} /thing", busy, busy, reply(200, {"good": 1}))

    assert (await session.ask(request_)).body == b'{"good": 1}'
    assert len(clock.slept) == 2


async def test_busy_for_ever_with_status_200_is_busy(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(200, {"state": "ERROR", "code": 503, "message_list": [MESSAGE]}))

    with pytest.raises(PrismBusy, match="asked 4 times"):
        await session.ask(GET)


async def test_a_secret_that_comes_back_in_such_an_error_is_not_repeated(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(200, {"state": "ERROR", "message_list": [{"message": f"no: {PASSWORD}"}]}))

    with pytest.raises(PrismAnswerError, match=r"no: \*\*\*"):
        await session.ask(GET)
