"""What is wrong with captures, though no run has to have failed for it: a level and a sentence, for whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_NAMED = 5


class Level(StrEnum):
    """How bad it is, in the words of monitoring."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class Finding:
    """Something that a person should know: `subject` is what it is about, `text` what is wrong, in one line."""

    level: Level
    subject: str
    text: str


def named(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
