"""Pages of changed regions as a cluster should never send them."""

from __future__ import annotations

import dataclasses

from ntxengine.sim.faults import RegionFault
from ntxengine.sim.regions import SECTOR_SIZE, Page, Window


def spoil(page: Page, window: Window, fault: RegionFault) -> Page:
    """Return the page with the fault in it: out of order, overlapping, past the end, or one that never moves on."""
    regions = page.regions
    if fault == "shuffle":
        return dataclasses.replace(page, regions=regions[::-1])
    if fault == "overlap" and regions:
        first = regions[0]
        return dataclasses.replace(
            page, regions=[first, (first[0], max(SECTOR_SIZE, first[1] // 2), first[2]), *regions[1:]]
        )
    if fault == "past_end":
        return dataclasses.replace(page, regions=[*regions, (page.size - SECTOR_SIZE, 128 * SECTOR_SIZE, False)])
    if fault == "stuck":
        return dataclasses.replace(page, next_offset=max(window.start, SECTOR_SIZE))
    return page
