"""Pages of changed regions as a cluster should never send them.

| kind           | the page                                     |
|----------------|----------------------------------------------|
| `shuffle`      | has its regions in the wrong order           |
| `overlap`      | names a part of its first region again       |
| `past_end`     | has a region beyond the end of the disk      |
| `unknown_type` | has a type that no schema knows              |
| `stuck`        | says that the next page begins where this did |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ntxengine.errors import OptionsError
from ntxengine.sim.pages import SECTOR_SIZE, Page, Window

RegionFault = str
"""One of REGION_FAULTS, or "" for none."""

Spoil = Callable[[Page, Window], Page]

REGION_FAULTS: dict[RegionFault, Spoil] = {}


def region_fault(name: str) -> Callable[[Spoil], Spoil]:
    """Enter a fault into the registry."""

    def enter(spoiled: Spoil) -> Spoil:
        REGION_FAULTS[name] = spoiled
        return spoiled

    return enter


def check(fault: RegionFault) -> None:
    """Raise OptionsError if there is no such fault."""
    if fault and fault not in REGION_FAULTS:
        known = ", ".join(sorted(REGION_FAULTS))
        raise OptionsError(f"simulator: faults.regions: {fault!r} is not known; known are {known}")


def spoil(page: Page, window: Window, fault: RegionFault) -> Page:
    """Return the page with the fault in it."""
    check(fault)
    return REGION_FAULTS[fault](page, window) if fault else page


@region_fault("shuffle")
def _shuffle(page: Page, _window: Window) -> Page:
    return dataclasses.replace(page, regions=page.regions[::-1])


@region_fault("overlap")
def _overlap(page: Page, _window: Window) -> Page:
    if not page.regions:
        return page
    first, *others = page.regions
    again = (first[0], max(SECTOR_SIZE, first[1] // 2), first[2])
    return dataclasses.replace(page, regions=[first, again, *others])


@region_fault("past_end")
def _past_end(page: Page, _window: Window) -> Page:
    beyond = (page.size - SECTOR_SIZE, 128 * SECTOR_SIZE, False)
    return dataclasses.replace(page, regions=[*page.regions, beyond])


@region_fault("unknown_type")
def _unknown_type(page: Page, _window: Window) -> Page:
    return dataclasses.replace(page, data_type="SPARKLING")


@region_fault("stuck")
def _stuck(page: Page, window: Window) -> Page:
    return dataclasses.replace(page, next_offset=max(window.start, SECTOR_SIZE))
