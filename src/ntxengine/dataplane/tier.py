"""Storage tiers, and how to begin a transfer from each.

tier      in flight  request   named by the APIs as
SSD       8          1 MiB     SSD-PCIe, SSD-SATA, PCIE_SSD, SATA_SSD, SSD_MEM_NVME, ALL_FLASH
HYBRID    4          512 KiB   DAS-SATA, HDD, MIXED, ALL_HDD
ARCHIVE   2          256 KiB   (by configuration only)
CLOUD     2          4 MiB     CLOUD

These are where it begins: how many requests are in flight, and over how many connections, follows what is seen then.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ntxengine.units import KIB, MIB


@dataclass(frozen=True)
class Preset:
    """Where a transfer begins: requests in flight over all connections, and bytes of one request."""

    begin_in_flight: int
    request_size: int


class Tier(Enum):
    """Where the bytes of a disk lie."""

    SSD = Preset(8, MIB)
    HYBRID = Preset(4, 512 * KIB)
    ARCHIVE = Preset(2, 256 * KIB)
    CLOUD = Preset(2, 4 * MIB)


_NAMES = {
    Tier.SSD: ("SSD", "SSD_PCIE", "SSD_SATA", "PCIE_SSD", "SATA_SSD", "SSD_MEM_NVME", "ALL_FLASH"),
    Tier.HYBRID: ("HYBRID", "DAS_SATA", "HDD", "MIXED", "ALL_HDD"),
    Tier.ARCHIVE: ("ARCHIVE",),
    Tier.CLOUD: ("CLOUD",),
}
_BY_NAME = {name: tier for tier, names in _NAMES.items() for name in names}


def tier_of(name: str) -> Tier | None:
    """Return the tier that any Prism API, or a person, calls `name`; None if nobody does."""
    return _BY_NAME.get(name.strip().upper().replace("-", "_"))
