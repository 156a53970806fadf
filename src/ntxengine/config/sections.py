"""The sections of a configuration that say where the cluster is, how VMs are captured, and what that may take."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ntxengine.capture import DEFAULT_MAX_CHAIN
from ntxengine.config.part import Groups, Part
from ntxengine.config.values import (
    AuditAmount,
    Compression,
    CpuLimit,
    Expiry,
    Fingerprint,
    LocalPath,
    MemoryLimit,
    PrismAddress,
    Rate,
    Seconds,
    SecretText,
    Size,
    Source,
    SshHost,
    SshUser,
    Text,
    TierName,
    Username,
    Uuid,
    number_or_text,
    seconds,
)
from ntxengine.dataplane.retry import MAX_PATIENCE_S, Patience
from ntxengine.images.choice import MAX_ZSTD_LEVEL

MAX_MBPS = 10**7
"""10 Tbit/s."""


class Nutanix(Part):
    """Where the cluster is, who we are there, and how its certificates are judged."""

    either: ClassVar[Groups] = (
        ("password", "password_file"),
        ("api_key", "api_key_file"),
        ("element_password", "element_password_file"),
    )

    prism_central: PrismAddress | None = None
    """Prism Central (v4): `host`, `host:9440` or `https://host:9440`."""
    prism_element: PrismAddress | None = None
    """Prism Element (v3): alone, or beside Prism Central for where that has no v4."""
    username: Username | None = None
    """User of that Prism; `user@domain` with `auth: ad`."""
    password: SecretText | None = None
    """Its password: best as "${NAME}", or in a file."""
    password_file: LocalPath | None = None
    """File whose first line is the password."""
    auth: Literal["local", "ad", "api_key", "saml"] = "local"
    """Kind of account."""
    api_key: SecretText | None = None
    """The key of `auth: api_key`."""
    api_key_file: LocalPath | None = None
    """File whose first line is that key."""
    element_username: Username | None = None
    """User of `prism_element` beside a Prism Central; the same as there, if nothing is said."""
    element_password: SecretText | None = None
    """Password of that user; the same as there, if no `element_username` is given."""
    element_password_file: LocalPath | None = None
    """File whose first line is that password."""
    cluster_uuid: Uuid | None = None
    """Only VMs of this cluster."""
    project: Uuid | None = None
    """extId of the project that recovery points are made in (v4)."""
    api: Literal["auto", "v3", "v4"] = "auto"
    """Prism API family; auto asks the server."""
    timeout: Seconds = 60.0
    """Longest wait for one answer of Prism, in seconds."""
    ca_file: LocalPath | None = None
    """Certificates (PEM) to trust instead of the system's."""
    fingerprint: Fingerprint | None = None
    """SHA-256 of that Prism's certificate: trust this one."""
    insecure: bool = False
    """Trust any certificate of that Prism."""
    trust_on_first_use: bool = False
    """Trust the certificate that a Prism shows first, remember it, and refuse another one later."""
    trust_file: LocalPath | None = None
    """Where `trust_on_first_use` remembers."""
    element_ca_file: LocalPath | None = None
    """As `ca_file`, for Prism Elements."""
    element_fingerprint: tuple[Fingerprint, ...] = ()
    """As `fingerprint`, for Prism Elements; several may be given."""
    element_name: Text | None = None
    """Name in the certificates of Prism Elements, which are reached by an address."""
    element_insecure: bool = False
    """As `insecure`, for Prism Elements."""


class Backup(Part):
    """How VMs are captured: the options of `ntx capture`.  A job may have any of these keys for itself."""

    either: ClassVar[Groups] = (("snapshot_retention_hours", "keep_recovery_point"), ("compress", "zstd_level"))

    repository: LocalPath | None = None
    """Directory that holds the points."""
    method: Literal["snapshot_diff", "cbt"] = "snapshot_diff"
    """Both mean changed regions, from whichever API the cluster has."""
    consistency: Literal["auto", "application", "app", "crash"] = "auto"
    """application (or app): fail where Guest Tools cannot quiesce; auto: take what is possible, and say which."""
    snapshot_retention_hours: Annotated[int, Field(ge=1, le=999_999)] | None = None
    """How long the cluster keeps our recovery point, the reference of the next capture, if we never come back."""
    keep_recovery_point: Expiry | None = None
    """The same, as 36h or 7d; 7d if nothing is said."""
    vss: Literal["copy", "full"] = "copy"
    """What a Windows guest makes of it: copy leaves the logs of databases alone, full cuts them (v4)."""
    on_lost_tracking: Literal["scan", "full", "fail"] = "scan"
    """When the cluster cannot say what changed: read all and send what differs, send all, or fail."""
    audit: AuditAmount | None = None
    """Read some of what the cluster says has not changed, and compare: 2% of each disk, 2GiB or 10m of a VM."""
    writer: Literal["own", "qemu"] = "own"
    """What writes QCOW2 images: this program, or a qemu-nbd."""
    compress: Compression | None = None
    """zstd or zstd:LEVEL: store clusters compressed, where that makes them smaller."""
    zstd_level: Annotated[int, Field(ge=0, le=MAX_ZSTD_LEVEL)] | None = None
    """The same, as a level; 0: not compressed."""
    compress_again: bool = False
    """Compress also disks whose storage container does that already."""
    verify: bool = True
    """Read back what was written before a point is committed."""
    resume: bool = True
    """Go on with a capture that was interrupted."""
    max_chain: Annotated[int, Field(ge=1)] = DEFAULT_MAX_CHAIN
    """Points on top of each other before the chain is made shorter."""
    parallel: Annotated[int, Field(ge=1, le=1024)] = 4
    """Disks of a VM at a time."""
    volume_groups: bool = True
    """Capture the volume groups that are attached to a VM with it (v4)."""
    retry_for: Annotated[
        float, BeforeValidator(seconds), Field(ge=0, le=MAX_PATIENCE_S), number_or_text("seconds, or such as 5m")
    ] = Patience.seconds
    """How long to try again after a lost connection without getting any further; 0: not at all."""
    tier: TierName | None = None
    """Where the bytes lie: SSD, HYBRID, ARCHIVE or CLOUD; sets request size and requests at first."""
    connections: Annotated[int, Field(ge=1, le=64)] | None = None
    """Threads for each disk; without it they follow what is seen."""
    request_size: Size | None = None
    """Bytes per request: a multiple of 64KiB, at most 32MiB."""
    in_flight: Annotated[int, Field(ge=1, le=64)] | None = None
    """Requests per connection; without it they follow what is seen."""
    answer_timeout: Seconds | None = None
    """Longest wait for one answer of the source or the target, in seconds."""
    flush_timeout: Seconds | None = None
    """Longest wait for the target to make sure, at the end, of what it was sent, in seconds."""
    worker: Text | None = None
    """This machine, as a VM of the cluster: disks are hot-added to it."""
    source: Source = "auto"
    """The way to the bytes; auto takes the first that can be used."""
    device_dir: LocalPath | None = None
    """Where hot-added disks appear; /dev/disk/by-id."""
    containers: LocalPath | None = None
    """Directory that has each storage container mounted under its name (v3)."""
    nfs_server: Text | None = None
    """Who is asked over NFS: the controller VM of the VM's host, else the address of the cluster."""
    data_services: Text | None = None
    """Who is asked over iSCSI: the cluster's data services address, port 3260."""


class Limits(Part):
    """How many VMs are captured at a time on one of something; 0: no limit."""

    per_cluster: Annotated[int, Field(ge=0)] = 0
    """On one cluster."""
    per_host: Annotated[int, Field(ge=0)] = 0
    """On one host."""
    per_container: Annotated[int, Field(ge=0)] = 0
    """On one storage container."""
    per_target: Annotated[int, Field(ge=0)] = 0
    """Into one repository."""


class Performance(Part):
    """What captures may take of the machine, the network and the cluster."""

    either: ClassVar[Groups] = (("bandwidth", "bandwidth_limit_mbps"),)

    max_concurrent_vms: Annotated[int, Field(ge=1, le=1024)] = 4
    """VMs at a time."""
    snapshot_timeout_minutes: Annotated[int, Field(ge=1, le=1440)] = 10
    """Longest wait for the cluster to make, or to remove, a recovery point."""
    bandwidth_limit_mbps: Annotated[float, Field(ge=0, le=MAX_MBPS)] | None = None
    """Limit on what this process reads in a second, of all disks: in 10^6 bits; 0: none."""
    bandwidth: Rate | None = None
    """The same, as 500M (bytes), off, or by the hour: "08:00,50M 19:00,off"."""
    cpu_limit: CpuLimit | None = None
    """Share of the processors of this machine that all of it may take: 5%."""
    memory_limit: MemoryLimit | None = None
    """Bytes that buffers and tables may take together: 512M."""
    limits: Limits = Limits()
    """VMs at a time on one cluster, host, storage container or target."""


class Tunnel(Part):
    """The control plane, and the ssh server in front of it."""

    control_plane_host: SshHost | None = None
    """Its name or address."""
    tunnel_port: Annotated[int, Field(ge=1, le=65535)] = 22
    """Port of its ssh server."""
    ssh_key_path: LocalPath | None = None
    """The private key to log in with; nobody else may be able to read it."""
    user: SshUser | None = None
    """The user there; as ssh takes it, if nothing is said."""
    known_hosts: LocalPath | None = None
    """The keys of the ssh servers that may be spoken to; without it those in ~/.ssh/known_hosts."""
