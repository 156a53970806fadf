"""Errors that come with a good status: `200`, and a body that says that the call failed.

v3  {"state": "ERROR", "code": 503, "message_list": [...]}, or one of the three alone;  {"status": "failure"}
v4  {"data": {"$objectType": "....ErrorResponse", "error": [...]}},  or the flag hasError in metadata
v2  {"error_code": {"code": 500}, "message": ...}
Spring, in front of all of them:  {"status": 500, "error": "Internal Server Error"}

Read as the answer that was asked for, each of them is an object that lacks everything: no region, no VM, no snapshot.
"""

from __future__ import annotations

from typing import Any

import msgspec

_MAX_ERROR_SIZE = 256 * 1024
"""An error alone is far below this.  A longer body is looked through only if the flag is set: it may be 64 MiB."""

_NULL = msgspec.Raw(b"null")
_BROKEN = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class _Top(msgspec.Struct):
    """What tells an error from an answer; everything else is skipped."""

    state: msgspec.Raw = _NULL
    status: msgspec.Raw = _NULL
    code: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    error_code: msgspec.Raw = _NULL
    message_list: msgspec.Raw = _NULL
    data: msgspec.Raw = _NULL
    metadata: msgspec.Raw = _NULL


class _Data(msgspec.Struct):
    object_type: msgspec.Raw = msgspec.field(default=_NULL, name="$objectType")
    error: msgspec.Raw = _NULL


class _Metadata(msgspec.Struct):
    flags: msgspec.Raw = _NULL


def hidden_error(body: bytes) -> int | None:
    """Return the status that an error in the body of a good answer names, 0 if it names none; None if it is no error.

    A body that is no JSON object is none either: whoever reads it says what is wrong with it.
    """
    if len(body) > _MAX_ERROR_SIZE and not _may_be_flagged(body):
        return None
    try:
        top = msgspec.json.decode(body, type=_Top)
        return _of_top(top) if (found := _of_data(top)) is None else found
    except _BROKEN:
        return None


def _of_top(top: _Top) -> int | None:
    """Return what v2, v3 and what stands in front of them say."""
    state, status, code, error_code = (_plain(raw) for raw in (top.state, top.status, top.code, top.error_code))
    if isinstance(error_code, dict):
        return _status(error_code.get("code"))
    if isinstance(state, str) and state.upper() == "ERROR":
        return _status(code)
    if isinstance(status, str) and status.lower() == "failure":
        return _status(code)
    if _status(code) or bytes(top.message_list).startswith(b"[{"):
        return _status(code)
    if _status(status) and isinstance(_plain(top.error), str):
        return _status(status)
    return None


def _of_data(top: _Top) -> int | None:
    """Return what v4 says."""
    if bytes(top.data).startswith(b"{"):
        data = msgspec.json.decode(top.data, type=_Data)
        kind, error = _plain(data.object_type), _plain(data.error)
        if (isinstance(kind, str) and kind.endswith("ErrorResponse")) or error:
            return _status(error.get("statusCode")) if isinstance(error, dict) else 0
    if bytes(top.metadata).startswith(b"{"):
        flags = _plain(msgspec.json.decode(top.metadata, type=_Metadata).flags)
        for flag in flags if isinstance(flags, list) else ():
            if isinstance(flag, dict) and flag.get("name") == "hasError" and flag.get("value") is True:
                return 0
    return None


def _may_be_flagged(body: bytes) -> bool:
    """Return whether the last `hasError` of a long body stands in an object with a `true`.  Flags are flat objects."""
    at = body.rfind(b'"hasError"')
    if at < 0:
        return False
    return b"true" in body[max(body.rfind(b"{", 0, at), 0) : body.find(b"}", at) + 1]


def _plain(raw: msgspec.Raw) -> Any:
    """Return a short part of the body as plain values; a long one is an answer, not an error's."""
    return msgspec.json.decode(raw) if len(bytes(raw)) <= _MAX_ERROR_SIZE else None


def _status(value: Any) -> int:
    """Return an HTTP status of an error, 0 for anything else."""
    return value if isinstance(value, int) and 400 <= value < 600 else 0
