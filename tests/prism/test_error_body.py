"""Error bodies of every family become one reason and one line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntxengine.errors import CredentialsError, NotFoundError, PrismBusy, PrismStatusError
from ntxengine.prism.http.error_body import is_not_found, not_found_as, one_line, read_error_body, was_rejected

NAMES = ["message_list", "message", "reason", "details", "data", "error", "code", "errorGroup", "message_info", "x"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "reason", "text"),
    [
        ({"code": 422, "message_list": [{"message": "bad", "reason": "INVALID_REQUEST"}]}, "INVALID_REQUEST", "bad"),
        ({"status": "failure", "reason": "ACCESS_DENIED", "message": "no"}, "ACCESS_DENIED", "no"),
        ({"data": {"error": [{"code": "VMM-32810", "message": "gone"}]}}, "VMM-32810", "gone"),
        (
            {"data": {"error": {"error": "Bad Request", "validationErrorMessages": [{"message": "wrong"}]}}},
            "Bad Request",
            "wrong",
        ),
        ({"message": "v2 says no"}, "", "v2 says no"),
        ({"data": {"error": "text"}}, "", "text"),
        (
            {"message_list": [{"message": "bad", "reason": "R", "details": {"field": "spec.name", "limit": 64}}]},
            "R",
            "bad: field: spec.name, limit: 64",
        ),
        ({"message_list": [{"message": "bad", "reason": "R", "details": "too long"}]}, "R", "bad: too long"),
        ({"message_list": [{"reason": "INTERNAL_ERROR", "details": "only here"}]}, "INTERNAL_ERROR", "only here"),
        ({"status": "failure", "reason": "X", "message": "no", "details": {"a": "b"}}, "X", "no: a: b"),
        ({"data": {"error": {"code": "DP-1", "message": "alone"}}}, "DP-1", "alone"),
        ({"error": {"code": "429", "message": "slow down"}}, "429", "slow down"),
        ({"data": {"error": [{"code": "V-1", "errorGroup": "VM_LOCKED"}]}}, "V-1", "VM_LOCKED"),
        (
            {"timestamp": "2026", "status": 404, "error": "Not Found", "path": "/api"},
            "Not Found",
            "",
        ),
        ({"message_info": {}}, "", ""),
        ({"message_info": {"reason": "denied"}}, "", "reason: denied"),
        ({"message": "m", "detailed_message": "more", "error_code": {"code": 1202}}, "", "m; more; 1202"),
        ({"message": "same", "detailed_message": "same"}, "", "same"),
        ({"message_list": "text"}, "", ""),
        ({"message_list": [1, None, {"message": 5}, {"message": True}]}, "", "5"),
        ({}, "", ""),
    ],
)
def test_error_bodies_are_understood(body: Any, reason: str, text: str) -> None:
    found = read_error_body(msgspec.json.encode(body))

    assert (found.reason, found.text, found.is_plain) == (reason, text, False)


@pytest.mark.parametrize("body", [b"Internal Server Error", b"", b"<html>", b"\xff\xfe", b"[1]", b"{", b"[" * 100_000])
def test_any_other_body_is_plain_text(body: bytes) -> None:
    assert read_error_body(body).is_plain


@given(json_values)
def test_any_answer_is_one_printable_bounded_line(body: Any) -> None:
    found = read_error_body(msgspec.json.encode(body))

    for text in (found.reason, found.text):
        assert text.isprintable()
        assert len(text) < 320


def test_text_of_prism_becomes_one_printable_line() -> None:
    text = one_line("a\r\nb\x1b[31mc\u2028d" + "e" * 1000)

    assert text.isprintable()
    assert len(text) < 320
    assert text.startswith("a b [31mc d")


def test_not_found_is_a_404_or_a_400_with_that_reason() -> None:
    assert is_not_found(PrismStatusError("x", status=404))
    assert is_not_found(PrismStatusError("x", status=400, reason="ENTITY_NOT_FOUND"))
    assert not is_not_found(PrismStatusError("x", status=400, reason="INVALID_REQUEST"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PrismStatusError("x", status=422), True),
        (PrismStatusError("x", status=501), True),
        (PrismStatusError("x", status=500), False),
        (CredentialsError("x"), True),
        (PrismBusy("x"), False),
        (TimeoutError(), False),
    ],
)
def test_only_a_clear_no_proves_that_nothing_was_changed(error: BaseException, expected: bool) -> None:
    assert was_rejected(error) is expected


def test_a_no_to_a_repeated_request_proves_nothing() -> None:
    refused = PrismStatusError("x", status=404)
    refused.may_have_been_done = True

    assert not was_rejected(refused)


def test_a_request_that_never_left_changed_nothing() -> None:
    unsent = PrismBusy("no turn")
    unsent.was_sent = False
    again = PrismBusy("no turn")
    again.was_sent, again.may_have_been_done = False, True

    assert was_rejected(unsent)
    assert not was_rejected(again)


def test_not_found_as_names_the_subject() -> None:
    with pytest.raises(NotFoundError, match="VM 7 is not on the cluster"), not_found_as("VM 7"):
        raise PrismStatusError("x", status=404)
    with pytest.raises(PrismStatusError), not_found_as("VM 7"):
        raise PrismStatusError("x", status=403)
