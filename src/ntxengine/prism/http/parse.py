"""The border where Prism's bytes become checked values.

Every answer is decoded into a msgspec struct: fields that we do not know are ignored, a wrong type or an impossible
value is a PrismAnswerError that names the request and the field.  An identifier that goes into a path is checked here,
and once more where the path is made.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec

from ntxengine.errors import NotFoundError, PrismAnswerError
from ntxengine.ids import UUID_PATTERN, is_uuid
from ntxengine.prism.http.error_body import one_line

T = TypeVar("T")

MAX_OFFSET = 2**63 - 1

MAX_PAGES = 10_000
"""A million entities: more than any Prism holds, so a list that never ends is an error."""

_MAX_DEPTH = 100
"""Objects in objects: a VM's configuration has ten, and who writes it down needs stack for each."""

# v4 task ids carry the service in front: base64("ergon") ":" uuid.
TASK_ID_PATTERN = re.compile(rf"(?:[A-Za-z0-9+/_-]{{1,64}}={{0,2}}:)?{UUID_PATTERN}")

Uuid = Annotated[str, msgspec.Meta(pattern=rf"\A{UUID_PATTERN}\Z")]
TaskId = Annotated[str, msgspec.Meta(pattern=rf"\A{TASK_ID_PATTERN.pattern}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_OFFSET)]


def decode(body: bytes | msgspec.Raw, kind: type[T], *, request: str) -> T:
    """Return `body` as a `kind`.

    Errors: PrismAnswerError that says which request, which field and what is wrong with it.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        if not bytes(body).strip():
            raise PrismAnswerError(f"{request}: the answer is empty") from exc
        raise PrismAnswerError(f"{request}: the answer does not fit: {one_line(str(exc))}") from exc


def decode_object(body: bytes | msgspec.Raw, *, request: str) -> dict[str, Any]:
    """Return `body` as the JSON object that it is, unchecked inside but for how deep it goes.

    Errors: PrismAnswerError, also if it is nested so deep that nobody could write it again.
    """
    found = decode(body, dict[str, Any], request=request)
    level: list[Any] = [found]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, dict | list)
        ]
        if not level:
            return found
    raise PrismAnswerError(f"{request}: the answer is nested more than {_MAX_DEPTH} deep")


def id_in_path(value: str) -> str:
    """Return a UUID that may go into a path.  Whatever else Prism calls an id never gets there."""
    if not is_uuid(value):
        raise PrismAnswerError(
            f"Prism named an object {one_line(value)!r}, which is no UUID: nothing was asked about it"
        )
    return value


def given_id(value: str, subject: str) -> str:
    """Return an id that our caller gave.

    Errors: NotFoundError if it is no UUID, since nothing on a cluster can have it.
    """
    if not is_uuid(value):
        raise NotFoundError(f"there is no {subject} {one_line(value)!r}: an id on a Nutanix cluster is a UUID")
    return value


def check_same_id(found: str | None, asked: str, *, field: str, request: str) -> None:
    """Refuse an answer about another thing than the one that was asked for; one that does not name it is taken."""
    if found is not None and found.lower() != asked.lower():
        raise PrismAnswerError(f"{request}: the answer is about {field} {one_line(found)}, not about {asked}")


def ip_address_from(text: str) -> str:
    """Return an IP address that may be connected to; "" for what is none: a name could be made to lead anywhere."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "" if address.is_unspecified or address.is_multicast or "%" in text else str(address)


def yes_or_no(word: str | None, *, yes: str) -> bool | None:
    """Return whether a setting has the value `yes`; None if it is not told, or is no value that we know."""
    return {yes: True, "OFF": False, "NONE": False}.get((word or "").upper())


def bytes_from(value: object) -> int | None:
    """Return an amount of bytes that Prism tells; None for null, for -1 and for what is none."""
    is_amount = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_OFFSET
    return value if is_amount and isinstance(value, int) else None


def time_from(value: object) -> datetime | None:
    """Return a time that Prism wrote as text, in UTC; one without a zone is in UTC already.

    None if it is none that we can hold.  Nothing is decided by the times of a cluster, so a foreign recovery point that
    expires in the year 10000 must not hide the others.
    """
    if not isinstance(value, str):
        return None
    try:
        when = msgspec.convert(value, datetime)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return None


def time_from_msecs(value: object) -> datetime | None:
    """Return a time that Prism wrote as milliseconds since 1970; None for 0, for -1 and for what is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < MAX_OFFSET:
        return None
    try:
        return datetime.fromtimestamp(value / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return None
