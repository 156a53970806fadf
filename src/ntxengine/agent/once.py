"""What was said of something, so that it is said once, however often it is met."""

from __future__ import annotations

import re
from collections.abc import Hashable

MAX_SUBJECTS = 10_000

_VARIES = re.compile(r"[\w.:-]*\d[\w.:-]*")
"""Ids, numbers, times: they differ each time, and what is wrong is the same."""


class Once:
    """Remembers what was said last, by subject."""

    def __init__(self) -> None:
        self._said: dict[Hashable, str] = {}

    def is_new(self, subject: Hashable, text: str) -> bool:
        """Return whether this was not what was said of it last, and remember it."""
        gist = _VARIES.sub("#", text)
        if self._said.get(subject) == gist:
            return False
        if len(self._said) >= MAX_SUBJECTS:
            self._said.clear()  # some is said twice then
        self._said[subject] = gist
        return True

    def is_over(self, subject: Hashable) -> bool:
        """Return whether something was said of it, and forget that."""
        return self._said.pop(subject, None) is not None
