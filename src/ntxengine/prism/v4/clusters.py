"""Clusters as v4 tells of them (clustermgmt)."""

from __future__ import annotations

import msgspec

from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import ip_address_from
from ntxengine.prism.models import ClusterFacts
from ntxengine.prism.v4.schema_discovery import IpAddress
from ntxengine.prism.versions import read_version


class _BuildInfo(msgspec.Struct, rename="camel"):
    version: str | None = None
    full_version: str | None = None


class _ClusterConfig(msgspec.Struct, rename="camel"):
    build_info: _BuildInfo | None = None
    encryption_option: list[str] | None = None
    encryption_scope: list[str] | None = None
    encryption_in_transit_status: str | None = None

    @property
    def is_encrypted(self) -> bool | None:
        """Whether the cluster as a whole is; None where there is no scope, or one that we do not know."""
        scopes = set(self.encryption_scope or ())
        return True if "CLUSTER" in scopes else False if scopes == {"CONTAINER"} else None

    @property
    def encryption(self) -> str:
        """How, in Prism's words: SOFTWARE, HARDWARE; "" where that is not told."""
        return one_line(", ".join(word for word in self.encryption_option or () if not word.startswith("$")))


class _Network(msgspec.Struct, rename="camel"):
    external_address: IpAddress | None = None
    external_data_service_ip: IpAddress | None = None
    nfs_subnet_whitelist: list[str] | None = None


class ClusterState(msgspec.Struct, rename="camel"):
    """A cluster."""

    name: str | None = None
    config: _ClusterConfig | None = None
    network: _Network | None = None

    @property
    def data_services(self) -> str:
        """The IP address for iSCSI, "" if none is told."""
        network = self.network or _Network()
        return ip_address_from((network.external_data_service_ip or IpAddress()).text)

    def facts(self, cluster_id: str) -> ClusterFacts:
        """Return it as our model."""
        config = self.config or _ClusterConfig()
        build = config.build_info or _BuildInfo()
        version = read_version(one_line(build.full_version or ""), one_line(build.version or ""))
        network = self.network or _Network()
        clients = network.nfs_subnet_whitelist
        return ClusterFacts(
            cluster_id,
            one_line(self.name or ""),
            version,
            ip_address_from((network.external_address or IpAddress()).text),
            nfs_allowed=None if clients is None else tuple(map(one_line, clients)),
            is_encrypted=config.is_encrypted,
            encryption=config.encryption,
            encrypts_traffic={"ENABLED": True, "DISABLED": False}.get(config.encryption_in_transit_status or ""),
        )


class ClusterAnswer(msgspec.Struct, rename="camel"):
    """One cluster."""

    data: ClusterState
