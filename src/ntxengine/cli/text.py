"""Text that others wrote, made safe to print.

A VM name, a message of a server or a file name may hold line ends, terminal escapes or letters that turn the line
round.  Whatever would do more than show itself is shown as its escape.
"""

from __future__ import annotations

import unicodedata

# Control, format (bidirectional overrides, zero width), surrogate, private, unassigned, line and paragraph separators.
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    """Return `text` with everything that is not plainly visible written as `\\n`, `\\x1b`, `\\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(letter) for letter in text)


def _shown(letter: str) -> str:
    if unicodedata.category(letter) in _NOT_SHOWN:
        return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
    return letter


MARK = "…"
"""Stands where a part of a name was left out."""


def text_width(text: str) -> int:
    """Return how many columns `text`, which is printable, takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_letter_width, text))


def shortened(text: str, width: int) -> str:
    """Return `text` in at most `width` columns: a mark stands for its middle, for names differ at their ends."""
    if text_width(text) <= width:
        return text
    room = max(width - 1, 0)
    head, tail = _cut(text, room - room // 2), _cut(text[::-1], room // 2)[::-1]
    return head + MARK + tail


def _cut(text: str, width: int) -> str:
    taken = 0
    for index, letter in enumerate(text):
        taken += _letter_width(letter)
        if taken > width:
            return text[:index]
    return text


def _letter_width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def plural(count: int, noun: str) -> str:
    """Return `1 disk`, `2 disks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def elapsed(seconds: float) -> str:
    """Return a duration for a person: `0.4 s`, `12.3 s`, `3 min 05 s`, `2 h 03 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
