"""What Prism says when it says no: the error bodies of v2, v3 and v4, made into one reason and one line.

v3  {"message_list": [{"message", "reason", "details": {...} or "..."}]}, and the older {"reason", "message", "details"}
v4  {"data": {"error": [{"code", "message", "errorGroup"}]}}, one such object instead of the list, or
    {"data": {"error": {"error", "validationErrorMessages": [{"attributePath", "message"}]}}}
    {"metadata": {"messages": [{"code", "message"}]}} beside the flag hasError
v2  {"message", "detailed_message", "error_code": {"code"}}
gateways: {"timestamp", "status", "error", "path"} (Spring), {"error": {"code", "message"}}, {"message_info": {...}}
overload: plain text, such as `Internal Server Error`

A reason is often in one of these places only, so all are read; what is said twice is told once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from ntxengine.errors import CredentialsError, NotFoundError, PrismError, PrismStatusError

_MAX_TEXT = 300


@dataclass(frozen=True)
class ErrorBody:
    """`reason` is Prism's code or empty; `text` is one line; `is_plain` is true if the body was not Prism's JSON."""

    reason: str
    text: str
    is_plain: bool


def one_line(text: str) -> str:
    """Return text of Prism's as one printable line of bounded length."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _MAX_TEXT])
    line = " ".join(printable.split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}..."


def read_error_body(body: bytes) -> ErrorBody:
    """Return what an error body says; any body is accepted."""
    try:
        found: Any = msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        return ErrorBody("", one_line(body[: 4 * _MAX_TEXT].decode(errors="replace")), is_plain=True)
    said = list(_messages(found))
    reason = next((reason for reason, _ in said if reason), "")
    texts = dict.fromkeys(text for _, text in said if text and text != reason)
    return ErrorBody(one_line(reason), one_line("; ".join(texts)), is_plain=False)


def is_not_found(error: PrismStatusError) -> bool:
    """Return whether Prism said that the thing does not exist: a 404, or a 400 with that reason (nutanix-api, 2.1)."""
    return error.status == 404 or error.reason == "ENTITY_NOT_FOUND"


def was_rejected(error: BaseException) -> bool:
    """Return whether this, raised by a request that changes something, proves that nothing was changed."""
    if not isinstance(error, PrismError) or error.may_have_been_done:
        return False
    if isinstance(error, PrismStatusError):
        return error.status < 500 or error.status == 501
    return isinstance(error, CredentialsError) or not error.was_sent


@contextmanager
def not_found_as(subject: str) -> Iterator[None]:
    """Turn Prism's `not found` into a NotFoundError about `subject`."""
    try:
        yield
    except PrismStatusError as exc:
        if is_not_found(exc):
            raise NotFoundError(f"{subject} is not on the cluster: {exc}") from exc
        raise


def with_details(message: str, details: Any) -> str:
    """Return a message of v3 with its details: a text, or a map of anything."""
    if not isinstance(details, str):
        details = ", ".join(f"{name}: {text}" for name, text in _pairs(details))
    return ": ".join(dict.fromkeys(text for text in (message, details) if text))


def _messages(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (reason, text) from every place where one is known to stand, the most telling first."""
    for item in _dicts(found.get("message_list")):
        yield _text(item, "reason"), with_details(_text(item, "message"), item.get("details"))
    data = found.get("data")
    for holder in (data, found):
        error = holder.get("error") if isinstance(holder, dict) else None
        for item in _dicts([error] if isinstance(error, dict) else error):
            yield from _of_error(item)
        if isinstance(error, str):
            yield ("", error) if holder is data else (error, "")
    metadata = found.get("metadata")
    for item in _dicts(metadata.get("messages") if isinstance(metadata, dict) else None):
        yield from _of_error(item)
    yield _text(found, "reason"), with_details(_text(found, "message"), found.get("details"))
    yield "", _text(found, "detailed_message")
    yield from (("", f"{name}: {text}") for name, text in _pairs(found.get("message_info")))
    yield from (("", text) for name, text in _pairs(found.get("error_code")) if name == "code")


def _of_error(item: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what one message of v4 says: one of an application, or one about a schema."""
    code = _text(item, "code") or _text(item, "error")
    yield code, _text(item, "message") or _text(item, "errorGroup")
    for wrong in _dicts(item.get("validationErrorMessages")):
        yield code, f"{_text(wrong, 'attributePath')} {_text(wrong, 'message')}".strip()


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the names and the plain values of a map."""
    if isinstance(value, dict):
        yield from ((name, str(text)) for name, text in value.items() if isinstance(text, str | int) and text != "")


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
