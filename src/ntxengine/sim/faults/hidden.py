"""Places that the changed regions do not tell of, or tell wrongly, with an answer that is right in form.

| kind      | the place                                                    |
|-----------|--------------------------------------------------------------|
| `dropped` | is in no region: as if it had not changed, or had no data    |
| `zeroed`  | is reported as ZEROED, whatever it holds                     |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ntxengine.errors import OptionsError
from ntxengine.sim.pages import Page

Region = tuple[int, int, bool]
Hide = Callable[[Region], list[Region]]

HIDING: dict[str, Hide] = {
    "dropped": lambda _region: [],
    "zeroed": lambda region: [(region[0], region[1], True)],
}
"""What becomes of the part of a region that lies in the place."""

Question = Literal["changed", "allocated"]
"""What was asked: against a reference, or without one."""


@dataclass
class HiddenRegion:
    """What `length` bytes from `offset` on of each disk, or of the one with the id `disk`, become, a kind of HIDING.

    `question` limits it to what is asked against a reference, or without one.
    """

    offset: int
    length: int
    kind: str = "dropped"
    disk: str = ""
    question: Literal["", "changed", "allocated"] = ""

    def check(self) -> None:
        """Raise OptionsError if there is no such kind."""
        if self.kind not in HIDING:
            known = ", ".join(sorted(HIDING))
            raise OptionsError(f"simulator: faults.hidden: kind {self.kind!r} is not known; known are {known}")


def hide(page: Page, hidden: Iterable[HiddenRegion], disk_ids: tuple[str, ...], question: Question) -> Page:
    """Return the page without what is hidden of this disk."""
    regions = page.regions
    for place in hidden:
        place.check()
        if place.disk in ("", *disk_ids) and place.question in ("", question):
            regions = [part for region in regions for part in _parts(region, place)]
    return dataclasses.replace(page, regions=regions)


def _parts(region: Region, place: HiddenRegion) -> list[Region]:
    start, length, is_zero = region
    low, high = max(start, place.offset), min(start + length, place.offset + place.length)
    if low >= high:
        return [region]
    before, inside, after = (
        (start, low - start, is_zero),
        (low, high - low, is_zero),
        (high, start + length - high, is_zero),
    )
    return [part for part in (before, *HIDING[place.kind](inside), after) if part[1]]
