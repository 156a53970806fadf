"""The v4 answers about volume groups, as far as they are read."""

from __future__ import annotations

from dataclasses import replace

from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import Size, Uuid
from ntxengine.prism.iscsi import target_from
from ntxengine.prism.models import VolumeGroup
from ntxengine.prism.v4.schema import SECURE, Camel

GROUP_REL = "volumes:config:volume-group"
"""What a task calls a volume group that it touched."""


_CHAP = "CHAP"


class _IscsiFeatures(Camel):
    enabled_authentications: str | None = None


class VolumeGroupState(Camel):
    """A volume group.  Its disks are in a list of their own, its secret is told nowhere."""

    ext_id: Uuid
    name: str | None = None
    cluster_reference: str | None = None
    target_name: str | None = None
    is_secure: bool | None = None
    sharing_status: str | None = None
    enabled_authentications: str | None = None
    iscsi_features: _IscsiFeatures | None = None

    @property
    def protection(self) -> str:
        """Why Prism does not delete it when it is told to; empty if it does."""
        return SECURE if self.is_secure else ""

    @property
    def wants_chap(self) -> bool:
        """Whether clients of it prove who they are."""
        features = self.iscsi_features.enabled_authentications if self.iscsi_features else None
        return _CHAP in (self.enabled_authentications, features)

    def is_on(self, cluster_id: str) -> bool:
        """Whether it is on this cluster, as far as that is told."""
        return self.cluster_reference is None or self.cluster_reference.lower() == cluster_id.lower()

    def bare(self) -> VolumeGroup:
        """Return it as our model, without its target and its disk."""
        return VolumeGroup(self.ext_id, self.name or "", self.cluster_reference or "", protection=self.protection)

    def model(self, lun: int) -> VolumeGroup:
        """Return it as our model, with the number of its disk."""
        target = target_from(self.target_name, what=f"volume group {one_line(self.name or self.ext_id)}")
        return replace(self.bare(), target=target, lun=lun)


class VolumeGroupAnswer(Camel):
    """One volume group."""

    data: VolumeGroupState


class _ExternalStorage(Camel):
    volume_name: str | None = None


class VolumeDisk(Camel):
    """A disk of a volume group, and its number there."""

    ext_id: Uuid
    index: int | None = None
    disk_size_bytes: Size | None = None
    storage_container_id: str | None = None
    external_storage_info: _ExternalStorage | None = None


class IscsiAttachmentState(Camel):
    """An iSCSI client that is attached to a volume group."""

    ext_id: Uuid
