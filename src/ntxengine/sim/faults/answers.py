"""The real answer, changed before it goes out: what a cluster says with status 200 that is not so, or not all.

| kind            | the answer                                                                     |
|-----------------|--------------------------------------------------------------------------------|
| `set`           | `field` (`data.disks.0.backingInfo`; `*` is every item) is `value`, null if none |
| `drop`          | `field` is not there                                                           |
| `nothing`       | `{}`                                                                           |
| `has_error`     | v4: the flag `hasError` is true                                                |
| `is_truncated`  | v4: the flag `isTruncated` is true                                             |
| `error_entity`  | v3: an error with its code (`value`, 503), in a body of status 200             |
| `empty_body`    | no body at all                                                                 |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from ntxengine.errors import OptionsError
from ntxengine.sim.faults.requests import Requests

Body = Any
Change = Callable[[Body, "AnswerFault"], Body]

ANSWER_FAULTS: dict[str, Change] = {}

NO_BODY = object()
"""What a change returns for an answer without a body."""


@dataclass
class AnswerFault(Requests):
    """The answers to these requests are changed by `kind`, one of ANSWER_FAULTS."""

    kind: str = "set"
    field: str = ""
    value: object = None

    def check(self) -> None:
        """Raise OptionsError if there is no such kind."""
        if self.kind not in ANSWER_FAULTS:
            known = ", ".join(sorted(ANSWER_FAULTS))
            raise OptionsError(f"simulator: faults.answers: kind {self.kind!r} is not known; known are {known}")

    def change(self, body: Body) -> Body:
        """Return the body as it goes out."""
        self.check()
        return ANSWER_FAULTS[self.kind](body, self)


def answer_fault(name: str) -> Callable[[Change], Change]:
    """Enter a change into the registry."""

    def enter(change: Change) -> Change:
        ANSWER_FAULTS[name] = change
        return change

    return enter


def set_body(response: Response, body: bytes) -> Response:
    """Give an answer another body."""
    response.body = body
    response.headers["Content-Length"] = str(len(body))
    return response


def holders(value: Any, field: str) -> list[tuple[Any, Any]]:
    """Return every object or list that holds `field`, with the key or index that it holds it by."""
    *parts, last = field.split(".")
    found = [value]
    for part in parts:
        found = [item for holder in found for item in _items(holder, part)]
    return [(holder, key) for holder in found for key in _keys(holder, last)]


def _keys(holder: Any, part: str) -> list[Any]:
    if isinstance(holder, dict):
        return list(holder) if part == "*" else [part]
    if isinstance(holder, list):
        numbers = range(len(holder)) if part == "*" else [int(part)]
        return [number for number in numbers if number < len(holder)]
    return []


def _items(holder: Any, part: str) -> list[Any]:
    return [holder[key] for key in _keys(holder, part) if isinstance(holder, list) or key in holder]


@answer_fault("set")
def _set(body: Body, fault: AnswerFault) -> Body:
    for holder, key in holders(body, fault.field):
        holder[key] = fault.value
    return body


@answer_fault("drop")
def _drop(body: Body, fault: AnswerFault) -> Body:
    for holder, key in reversed(holders(body, fault.field)):
        if isinstance(holder, list) or key in holder:
            del holder[key]
    return body


@answer_fault("nothing")
def _nothing(_body: Body, _fault: AnswerFault) -> Body:
    return {}


@answer_fault("empty_body")
def _empty_body(_body: Body, _fault: AnswerFault) -> Body:
    return NO_BODY


@answer_fault("has_error")
def _has_error(body: Body, _fault: AnswerFault) -> Body:
    return _raise_flag(body, "hasError")


@answer_fault("is_truncated")
def _is_truncated(body: Body, _fault: AnswerFault) -> Body:
    return _raise_flag(body, "isTruncated")


def _raise_flag(body: Body, name: str) -> Body:
    if isinstance(body, dict):
        metadata = body.setdefault("metadata", {})
        others = [flag for flag in metadata.get("flags") or [] if flag.get("name") != name]
        metadata["flags"] = [*others, {"name": name, "value": True}]
    return body


@answer_fault("error_entity")
def _error_entity(_body: Body, fault: AnswerFault) -> Body:
    code = fault.value if isinstance(fault.value, int) else 503
    message = {"message": "The system cannot currently handle the request", "reason": "SERVICE_UNAVAILABLE"}
    return {"api_version": "3.1", "code": code, "state": "ERROR", "message_list": [message]}
