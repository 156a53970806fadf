"""The answer of cluster discovery."""

from __future__ import annotations

from ntxengine.prism.v4.schema import Camel


class _Address(Camel):
    value: str | None = None


class IpAddress(Camel):
    """An IP address of either kind."""

    ipv4: _Address | None = None
    ipv6: _Address | None = None

    @property
    def text(self) -> str:
        """The address as Prism wrote it, unchecked; empty if it wrote none."""
        for given in (self.ipv4, self.ipv6):
            if given is not None and given.value:
                return given.value
        return ""


class ClusterInfo(Camel):
    """Where the regions of a disk are computed, and the token for it."""

    cluster_ip: IpAddress
    jwt_token: str


class ClusterInfoAnswer(Camel):
    """The answer of cluster discovery."""

    data: ClusterInfo
