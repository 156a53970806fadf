"""An answer that is no, or a connection that broke, as the error to raise."""

from __future__ import annotations

import os

from ntxengine import errors
from ntxengine.prism.http.error_body import ErrorBody, one_line
from ntxengine.prism.http.message import Answer

_TIMED_OUT = (408, 504)
_BUSY = (429, 503)


def status_error(answer: Answer, body: ErrorBody, who: str, *, is_temporary: bool, tries: int) -> errors.PrismError:
    """Return the error that an answer of 400 or above means, now that we stop asking; `who` is the account."""
    status, reason = answer.meant_status, one_line(body.reason)
    is_hidden = answer.hidden_status is not None
    number = f"{answer.status} with an error in its body" if is_hidden else f"{status}"
    said = f"HTTP {number}{f' {reason}' if reason else ''}: {body.text or 'no reason given'}"
    if is_hidden and status not in (*_TIMED_OUT, *_BUSY):
        return errors.PrismAnswerError(f"{answer.request}: {said}: not taken for an answer")
    if status == 401:
        return errors.CredentialsError(f"{answer.request}: {one_line(who)} was refused: {said}")
    asked = f"{answer.request}: {said}: asked {tries} times"
    if status in _TIMED_OUT:
        return errors.PrismTimeout(f"{asked}; try again later")
    if status in _BUSY or (is_temporary and body.is_plain):
        return errors.PrismBusy(f"{asked}; try again later")
    text = asked if tries > 1 else f"{answer.request}: {said}"
    return errors.PrismStatusError(text, status=status, reason=reason)


def system_error(exc: BaseException | None) -> str:
    """Return what the system said at the bottom of it all ("Connection refused"); "" if it said nothing."""
    said = ""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno:
            said = os.strerror(exc.errno) if exc.errno > 0 else one_line(exc.strerror or "")
        exc = exc.__cause__ or exc.__context__
    return said
