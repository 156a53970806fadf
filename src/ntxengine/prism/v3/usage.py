"""What disks take on storage, as the virtual disks of v2 tell: by tier, as text, -1 where it is not known."""

from __future__ import annotations

import msgspec

from ntxengine.prism.http.parse import MAX_OFFSET, Uuid
from ntxengine.prism.kept import MAX_LISTED
from ntxengine.prism.listing import readable
from ntxengine.prism.models import DiskUsage
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.pages import v2_pages

_TIERS = {
    "controller.storage_tier.ssd.usage_bytes": "SSD",
    "controller.storage_tier.das-sata.usage_bytes": "DAS-SATA",
    "controller.storage_tier.cloud.usage_bytes": "CLOUD",
}


class _VirtualDisk(msgspec.Struct):
    device_uuid: Uuid | None = None
    stats: dict[str, object] | None = None

    def usage(self) -> DiskUsage:
        """Return what it takes: unknown if no tier says."""
        by_tier = {tier: _bytes((self.stats or {}).get(name)) for name, tier in _TIERS.items()}
        told = {tier: used for tier, used in by_tier.items() if used is not None}
        return DiskUsage(sum(told.values()) if told else None, tuple(tier for tier, used in told.items() if used))


async def usage_by_device(api: ElementApi) -> dict[str, DiskUsage]:
    """Return what each disk takes, by its device uuid: MAX_LISTED disks at most."""
    disks = v2_pages(api.list_virtual_disks_v2)
    found = await readable(disks, _VirtualDisk, what="virtual disk", limit=MAX_LISTED)
    return {disk.device_uuid: disk.usage() for disk in found if disk.device_uuid is not None}


def _bytes(value: object) -> int | None:
    """Return a number of bytes that v2 wrote as text; None for -1, and for what is none."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= MAX_OFFSET else None
