"""Volume groups by v4."""

from __future__ import annotations

from ntxengine.errors import PrismError
from ntxengine.prism.models import DiskPoint, VolumeGroup

_NOT_YET = "volume groups cannot be made by v4 yet"


class CentralVolumeGroups:
    """The `VolumeGroups` of `CentralPrism`, which inherits them."""

    no_volume_groups = _NOT_YET

    async def data_services(self, cluster_id: str) -> str:
        """Return the address that a cluster tells for iSCSI, "" if it has none, or does not tell it."""
        return ""

    async def make_volume_group(self, disk: DiskPoint, *, name: str, cluster_id: str, secret: str) -> VolumeGroup:
        """Make a volume group with a clone of `disk`."""
        raise PrismError(_NOT_YET)

    async def admit_initiator(self, group: VolumeGroup, initiator: str, secret: str) -> None:
        """Let an initiator log in to the target."""
        raise PrismError(_NOT_YET)

    async def volume_groups(self, name_prefix: str) -> list[VolumeGroup]:
        """Return the volume groups whose names begin so."""
        return []

    async def remove_volume_group(self, group: VolumeGroup) -> None:
        """Take its initiators off, delete it, and wait until it is gone."""
        raise PrismError(_NOT_YET)
