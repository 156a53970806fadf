"""Guest Tools as v3 tells of them."""

from __future__ import annotations

import msgspec

from ntxengine.prism.guest import GuestTools, told
from ntxengine.prism.http.error_body import one_line


class _NutanixGuestTools(msgspec.Struct):
    state: str | None = None
    ngt_state: str | None = None
    is_reachable: bool | None = None
    vss_snapshot_capable: bool | None = None
    enabled_capability_list: list[str] | None = None
    version: str | None = None
    guest_os_version: str | None = None


class GuestToolsState(msgspec.Struct):
    """Guest Tools of a VM."""

    nutanix_guest_tools: _NutanixGuestTools | None = None

    def model(self) -> GuestTools:
        """Return them as our model."""
        tools = self.nutanix_guest_tools
        if tools is None:
            return GuestTools()
        listed = tools.enabled_capability_list
        return GuestTools(
            installed=None if tools.ngt_state is None else tools.ngt_state == "INSTALLED",
            enabled=None if tools.state is None else tools.state == "ENABLED",
            reachable=tools.is_reachable,
            can_quiesce=told(tools.vss_snapshot_capable, None if listed is None else "VSS_SNAPSHOT" in listed),
            version=one_line(tools.version or ""),
            os_name=one_line(tools.guest_os_version or ""),
        )
