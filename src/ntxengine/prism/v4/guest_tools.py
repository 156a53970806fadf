"""Guest Tools as v4 tells of them."""

from __future__ import annotations

import msgspec

from ntxengine.prism.guest import GuestTools, told
from ntxengine.prism.http.error_body import one_line


class _GuestInfo(msgspec.Struct, rename="camel"):
    guest_os_full_name: str | None = None


class GuestToolsState(msgspec.Struct, rename="camel"):
    """Guest Tools of a VM."""

    is_installed: bool | None = None
    is_enabled: bool | None = None
    is_reachable: bool | None = None
    is_vss_snapshot_capable: bool | None = None
    capabilities: list[str] | None = None
    version: str | None = None
    guest_os_version: str | None = None
    guest_info: _GuestInfo | None = None

    def model(self) -> GuestTools:
        """Return them as our model."""
        # vmm 4.3 names the system in guestInfo, which is then the one that counts.
        named = self.guest_info.guest_os_full_name if self.guest_info else None
        is_listed = None if self.capabilities is None else "VSS_SNAPSHOT" in self.capabilities
        return GuestTools(
            installed=self.is_installed,
            enabled=self.is_enabled,
            reachable=self.is_reachable,
            can_quiesce=told(self.is_vss_snapshot_capable, is_listed),
            version=one_line(self.version or ""),
            os_name=one_line(named or self.guest_os_version or ""),
        )
