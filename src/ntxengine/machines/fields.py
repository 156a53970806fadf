"""Fields of Prism's entity, read with suspicion.

A VM's configuration is decoded JSON that was checked for nothing but its depth.  A value that cannot be is told in
`losses` and gives way to a default: a VM with an odd field still has data worth copying.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from ntxengine.ids import is_uuid
from ntxengine.machines.model import UTC_ZONE
from ntxengine.machines.text import shown

T = TypeVar("T")

MAX_ITEMS = 512
"""Disks, network cards or ports of one VM: more than a cluster allows."""

MAX_TEXT = 4096
"""Bytes of a text that are looked at."""

_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")
_MAC = re.compile(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")


class Fields:
    """One object of the entity.  `subject` is how messages call it; losses of all objects go into one list."""

    def __init__(self, values: object, subject: str, losses: list[str]) -> None:
        self.subject = subject
        self.losses = losses
        self.values: Mapping[str, Any] = values if isinstance(values, dict) else {}
        if values is not None and not isinstance(values, dict):
            self.lose(f"is told as {shown(values)}, which is not understood")

    def lose(self, what: str) -> None:
        """Note a sentence about this object, each once."""
        sentence = f"{self.subject} {what}"
        if sentence not in self.losses:
            self.losses.append(sentence)

    def is_told(self, key: str) -> bool:
        """Say whether there is a value."""
        return self.values.get(key) is not None

    def part(self, *keys: str, subject: str = "") -> Fields:
        """Return the object under `keys`, one in the other; empty where there is none."""
        found: object = self.values
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return Fields(found, subject or self.subject, self.losses)

    def parts(self, key: str, subject: str) -> Iterator[Fields]:
        """Return the objects of a list, as far as they are some; `subject` gets the number of each."""
        values = self.values.get(key)
        if values is None:
            return
        if not isinstance(values, list):
            self.lose(f"has {key} that is told as {shown(values)}, which is not understood")
            return
        if len(values) > MAX_ITEMS:
            self.lose(f"has {len(values)} {key}, of which {MAX_ITEMS} are looked at")
        for number, value in enumerate(values[:MAX_ITEMS]):
            if isinstance(value, dict):
                yield Fields(value, f"{subject} {number}", self.losses)
            else:
                self.lose(f"has a {key} that is told as {shown(value)}, which is not understood")

    def text(self, key: str, *, limit: int = MAX_TEXT) -> str:
        """Return a text, "" where there is none; a longer one is cut."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.lose(f"has a {key} that is no text ({shown(value)})")
            return ""
        if len(value) > limit:
            self.lose(f"has a {key} of {len(value)} letters, of which the first {limit} are kept")
        return value[:limit]

    def integer(self, key: str, default: int, *, low: int, high: int, factor: int = 1) -> int:
        """Return a number between two others, times `factor`; where it is told and is none, `default`."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and low <= value * factor <= high:
            return value * factor
        self.lose(f"has a {key} that cannot be ({shown(value)}): {default} is taken, look at it before it is started")
        return default

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return a yes or no."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.lose(f"has a {key} that is neither yes nor no ({shown(value)}): {default} is taken")
            return default
        return value

    def choice(self, key: str, words: Mapping[str, T], default: T) -> T:
        """Return what Prism's word means; one that is not known is told."""
        value = self.values.get(key)
        if value is None:
            return default
        found = words.get(value) if isinstance(value, str) else None
        if found is None:
            self.lose(f"has the {key} {shown(value)}, which is not known: {default} is taken")
            return default
        return found

    def uuid(self, key: str) -> str:
        """Return a UUID in lower case, "" where none is told."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not is_uuid(value):
            self.lose(f"has a {key} that is no UUID ({shown(value)})")
            return ""
        return value.lower()

    def mac(self, key: str) -> str:
        """Return the address of one network card in lower case with colons, "" where none is told, or it is none."""
        value = self.values.get(key)
        if value is None:
            return ""
        text = value.lower().replace("-", ":") if isinstance(value, str) and _MAC.fullmatch(value) else ""
        # The lowest bit of the first byte says that it is a group of cards.
        if not text or int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
            self.lose(f"has a {key} that no network card can have ({shown(value)}): the target makes a new one")
            return ""
        return text

    def zone(self, key: str) -> str:
        """Return the IANA name of a time zone, as far as its letters are those of one; UTC where none is told."""
        value = self.values.get(key)
        if value is None or value == "":
            return UTC_ZONE
        if not isinstance(value, str) or _ZONE.fullmatch(value) is None:
            self.lose(f"has a {key} that is no time zone ({shown(value)}): {UTC_ZONE} is taken")
            return UTC_ZONE
        return value
