"""The version of AOS on a cluster: read from what Prism writes, and what is known of each.

A version string never decides by itself whether an API can be used, live probes do (probe.py); one that cannot be read
counts as unknown, and nothing is refused for it.  What is known to have no changed regions is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = re.compile(r"\d+(?:\.\d+)+")
_SYSTEM = re.compile(r"el\d+(?:\.\d+)*")
_FIRST_DATED = 2000
"""Community editions, nightly builds and Prism Central are numbered by the year: those are not versions of AOS."""


@dataclass(frozen=True)
class AosVersion:
    """`text` is what Prism wrote, `numbers` what could be read of it, () if nothing."""

    text: str = ""
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) if self.numbers else f"unknown ({self.text or 'not told'})"


@dataclass(frozen=True)
class Era:
    """Versions from `first` on, until the next era begins; `evidence` is where it was seen, if it was."""

    name: str
    first: tuple[int, ...]
    v3: str
    v4: str
    evidence: str


ERAS = (
    Era("before 5.20", (0,), "refused", "no", "nothing seen but a test program's requests (2019)"),
    Era("5.20", (5, 20), "yes", "no", "nobody's: the calls are older (2019) and newer (6.5)"),
    Era("6.0 to 6.4", (6, 0), "yes", "no", "nobody's: as 5.20"),
    Era("6.5 to 6.10", (6, 5), "yes", "no", "one lab, 6.5.2; the element's own definition (2023)"),
    Era("7.x", (7, 0), "yes, until the older APIs are removed", "yes, with Prism Central pc.2024.3 or later",
        "labs, 7.3.1.5 and 7.5.1.2"),
)  # fmt: skip
OLDEST = ERAS[1]


def read_version(full: str | None, short: str | None = None) -> AosVersion:
    """Return the version of a cluster.

    `full` is the one that counts: `el8.5-release-ganges-7.0.1-stable-...` comes with a `short` of 7.0.
    """
    for text in (full, short):
        for part in (text or "").split("-"):
            if _NUMBER.fullmatch(part) and not _SYSTEM.fullmatch(part):
                numbers = tuple(int(number[:9]) for number in part.split("."))
                if numbers[0] < _FIRST_DATED:
                    return AosVersion(text or "", numbers)
    return AosVersion(full or short or "")


def era_of(version: AosVersion) -> Era | None:
    """Return what is known of a version, None if the version is not."""
    if not version.numbers:
        return None
    return [era for era in ERAS if era.first <= version.numbers][-1]


def refusal(version: AosVersion) -> str:
    """Return why a cluster of this version is refused, "" if it is not."""
    era = era_of(version)
    if era is None or era.first >= OLDEST.first:
        return ""
    known = "; ".join(f"{each.name}: v3 {each.v3}, v4 {each.v4}" for each in ERAS)
    return f"AOS {version} is older than {OLDEST.name}, the oldest that is supported ({known}): update the cluster"


def notice(version: AosVersion, family: str) -> str:
    """Return what to say of a version that is not refused, "" if it is as expected."""
    era = era_of(version)
    if era is None:
        return (
            f"the version of AOS could not be read ({version.text or 'it was not told'}): what the cluster can is asked"
        )
    if family == "v4" and era.first < ERAS[-1].first:
        return (
            f"AOS {version} has no changed regions by v4 as far as is known (they came with 7.0): the address of its "
            f"Prism Element gives those of v3"
        )
    return ""
