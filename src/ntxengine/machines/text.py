"""Text that others wrote, made fit for what a definition is written in."""

from __future__ import annotations

import re

_MAX_SHOWN = 60
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# What XML 1.0 cannot hold in any form: control characters, halves of surrogate pairs, two that are no characters.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]+")
_REDUCED = re.compile(r"[^A-Za-z0-9._-]+")


def shown(value: object) -> str:
    """Return a value of any kind for a message: on one line, bounded, with nothing that does more than show itself."""
    if isinstance(value, bool | int | float | str) or value is None:
        text = repr(value if not isinstance(value, str) else value[: _MAX_SHOWN * 2])
        return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 4]}...'"
    return f"a {type(value).__name__}"


def xml_text(text: str) -> str:
    """Return `text` as XML can hold it.  Ends of lines are those that a parser makes of them."""
    return _NOT_XML.sub(_REPLACEMENT, text.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str) -> str:
    """Return `text` without control characters and ends of lines: a space stands for them."""
    return xml_text(_CONTROL.sub(" ", text)).strip()


def cut(text: str, size: int) -> str:
    """Return the beginning of `text` that has at most `size` bytes in UTF-8."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def reduced(text: str) -> str:
    """Return `text` with nothing but letters, digits, `.`, `_` and `-`, and no `.` or `-` in front; may be empty."""
    return _REDUCED.sub("_", text).lstrip(".-")
