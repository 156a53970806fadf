"""What Prism says when it says no: the error bodies of v2, v3 and v4, made into one reason and one line.

v3  {"message_list": [{"message", "reason"}]}   and the older  {"reason", "message"}
v4  {"data": {"error": [{"code", "message"}]}}  or  {"data": {"error": {"validationErrorMessages": [...]}}}
v2  {"message"}
overload: plain text, such as `Internal Server Error`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from ntxengine.errors import CredentialsError, NotFoundError, PrismStatusError

_MAX_TEXT = 300
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True)
class ErrorBody:
    """`reason` is Prism's code or empty; `text` is one line; `is_plain` is true if the body was not Prism's JSON."""

    reason: str
    text: str
    is_plain: bool


def one_line(text: str) -> str:
    """Return text of Prism's as one printable line of bounded length."""
    line = _UNPRINTABLE.sub(" ", text).strip()
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
    return ErrorBody(reason, one_line("; ".join(text for _, text in said if text)), is_plain=False)


def is_not_found(error: PrismStatusError) -> bool:
    """Return whether Prism said that the thing does not exist: a 404, or a 400 with that reason (nutanix-api, 2.1)."""
    return error.status == 404 or error.reason == "ENTITY_NOT_FOUND"


def was_rejected(error: BaseException) -> bool:
    """Return whether this, raised by a request that changes something, proves that nothing was changed."""
    if isinstance(error, PrismStatusError):
        return error.status < 500 or error.status == 501
    return isinstance(error, CredentialsError | NotFoundError)


@contextmanager
def not_found_as(subject: str) -> Iterator[None]:
    """Turn Prism's `not found` into a NotFoundError about `subject`."""
    try:
        yield
    except PrismStatusError as exc:
        if is_not_found(exc):
            raise NotFoundError(f"{subject} is not on the cluster: {exc}") from exc
        raise


def _messages(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for item in _dicts(found.get("message_list")):
        yield _text(item, "reason"), _text(item, "message")
    data = found.get("data")
    error = data.get("error") if isinstance(data, dict) else None
    for item in _dicts(error):
        yield _text(item, "code"), _text(item, "message")
    if isinstance(error, dict):
        for item in _dicts(error.get("validationErrorMessages")):
            yield _text(error, "error"), f"{_text(item, 'attributePath')} {_text(item, 'message')}".strip()
    yield _text(found, "reason"), _text(found, "message")


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def _text(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""
