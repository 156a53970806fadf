"""What a configuration means to the parts of the program: the same objects that the options of commands become."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from ntxengine.attach import DEVICE_DIR, AttachOptions
from ntxengine.capture import DEFAULT_EXPIRY, CaptureOptions, ConsistencyChoice, parse_audit
from ntxengine.config.file import Config
from ntxengine.config.jobs import Job, Retention
from ntxengine.config.replicas import Replicate
from ntxengine.config.sections import Backup, Nutanix, Performance, Tunnel
from ntxengine.config.values import prism_url
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.cpu import parse_cpu_limit
from ntxengine.dataplane.memory import MemoryBudget
from ntxengine.dataplane.security import ConnectionOptions, TlsOptions
from ntxengine.dataplane.tier import tier_of
from ntxengine.errors import OptionsError
from ntxengine.images.choice import ImageOptions, zstd_level_of
from ntxengine.machines import DefinitionOptions, NetworkMap
from ntxengine.prism.reach import Login, Reach, ReadSecret, endpoints
from ntxengine.prune import PruneOptions
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.targets import Target, TargetOptions, target_of
from ntxengine.retention import Policy
from ntxengine.tunnel.options import SshGateway, SshLogin, SshOptions
from ntxengine.units import parse_expiry, parse_memory_limit, parse_share, parse_size, parse_span, parse_time_zone

BITS_OF_MEGABIT = 10**6


# ------------------------------------------------------------------------------------------------------ the cluster


def reach(nutanix: Nutanix) -> Reach:
    """Return how the cluster is reached: an account that is only said once holds for both Prisms.

    Errors: OptionsError (no Prism, no user).
    """
    central, element = nutanix.prism_central, nutanix.prism_element
    url = central or element
    if url is None:
        raise OptionsError("neither prism_central nor prism_element says where the cluster is")
    if nutanix.username is None and nutanix.auth in ("local", "ad"):
        raise OptionsError("username is missing")
    beside = element if central and element and (nutanix.username or nutanix.element_username) else None
    return Reach(
        url=prism_url(url),
        username=nutanix.username,
        auth=nutanix.auth,
        project=nutanix.project,
        ca_file=_path(nutanix.ca_file),
        fingerprint=nutanix.fingerprint,
        insecure=nutanix.insecure,
        trust_on_first_use=nutanix.trust_on_first_use,
        trust_file=_path(nutanix.trust_file),
        element=None if beside is None else prism_url(beside),
        element_username=None if beside is None else nutanix.element_username or nutanix.username,
        element_ca_file=_path(nutanix.element_ca_file),
        element_fingerprint=nutanix.element_fingerprint,
        element_name=nutanix.element_name,
        element_insecure=nutanix.element_insecure,
        api=nutanix.api,
        prism_timeout=nutanix.timeout,
    )


def login(config: Config, read: ReadSecret) -> Login:
    """Return what to connect to.  Errors: OptionsError; those of `read`, which is asked for secrets."""
    return endpoints(reach(config.nutanix), read).within(snapshot_timeout_s(config.performance))


def tunnel_gateway(tunnel: Tunnel) -> SshGateway | None:
    """Return the ssh server of the control plane; None if none is named.  Errors: OptionsError."""
    if tunnel.control_plane_host is None:
        return None
    server = SshLogin(tunnel.control_plane_host, tunnel.tunnel_port, tunnel.user or "")
    return SshGateway(server, SshOptions(_path(tunnel.ssh_key_path), _path(tunnel.known_hosts)))


# --------------------------------------------------------------------------------------------------------- captures


def consistency_of(backup: Backup) -> ConsistencyChoice:
    """Return what `consistency` is called by captures."""
    return "app" if backup.consistency == "application" else backup.consistency


def expiry_of(backup: Backup) -> timedelta:
    """Return how long the cluster keeps a recovery point of ours."""
    if backup.snapshot_retention_hours is not None:
        return timedelta(hours=backup.snapshot_retention_hours)
    return DEFAULT_EXPIRY if backup.keep_recovery_point is None else parse_expiry(backup.keep_recovery_point)


def zstd_level(backup: Backup) -> int:
    """Return the level of compression; 0 for none."""
    return zstd_level_of(backup.compress) if backup.compress is not None else backup.zstd_level or 0


def rate_text(performance: Performance) -> str:
    """Return the limit on reading as --bandwidth takes it; "off" for none.

    10^6 bits are 125 000 bytes: a network is measured so, and nothing here is a power of 1024.
    """
    if performance.bandwidth_limit_mbps is not None:
        return str(round(performance.bandwidth_limit_mbps * BITS_OF_MEGABIT / 8)) or "off"
    return performance.bandwidth or "off"


def bandwidth(performance: Performance, memory: MemoryBudget | None = None) -> Bandwidth:
    """Return the limit on what all copies of this process read, and take of processors and memory, together.

    Made once, and given to each.  `memory`: what others have reserved from, too; its limit stays as it is.
    """
    return Bandwidth(
        rate_text(performance),
        cpu_limit=cpu_share(performance) or 0.0,
        memory_limit=memory_bytes(performance) if memory is None else memory,
    )


def copy_options(backup: Backup, limit: Bandwidth) -> CopyOptions:
    """Return how disks are copied, within a limit that others share.  Errors: OptionsError."""
    usual = CopyOptions()
    options = CopyOptions(
        connections=backup.connections,
        in_flight=backup.in_flight,
        request_size=None if backup.request_size is None else parse_size(backup.request_size),
        bandwidth=limit,
        timeout_s=usual.timeout_s if backup.answer_timeout is None else backup.answer_timeout,
        flush_timeout_s=usual.flush_timeout_s if backup.flush_timeout is None else backup.flush_timeout,
    )
    return options.on(None if backup.tier is None else tier_of(backup.tier))


def capture_options(backup: Backup, limit: Bandwidth, *, at_once: int = 1) -> CaptureOptions:
    """Return how VMs are captured, `at_once` of them at a time.  Errors: OptionsError."""
    return CaptureOptions(
        consistency=consistency_of(backup),
        vss=backup.vss,
        on_lost_tracking=backup.on_lost_tracking,
        copy=copy_options(backup, limit),
        verify=backup.verify,
        retry_for_s=backup.retry_for,
        expiry=expiry_of(backup),
        parallel=backup.parallel,
        captures_at_once=at_once,
        resume=backup.resume,
        max_chain=backup.max_chain,
        audit=None if backup.audit is None else parse_audit(backup.audit),
        volume_groups=backup.volume_groups,
        image=ImageOptions(backup.writer, zstd_level(backup)),
        compress_again=backup.compress_again,
    )


def attach_options(backup: Backup, worker_id: str = "", gateway: SshGateway | None = None) -> AttachOptions:
    """Return what is said of the ways to the disks; `worker_id` is the UUID of the VM that `worker` names."""
    return AttachOptions(
        worker_id,
        _path(backup.device_dir) or DEVICE_DIR,
        _path(backup.containers),
        backup.source,
        nfs_server=backup.nfs_server or "",
        data_services=backup.data_services or "",
        gateway=gateway,
    )


def snapshot_timeout_s(performance: Performance) -> float:
    """Return how long the cluster may take for a task with a recovery point, in seconds."""
    return performance.snapshot_timeout_minutes * 60.0


def cpu_share(performance: Performance) -> float | None:
    """Return which part of this machine's processors may be taken; None: no limit."""
    return None if performance.cpu_limit is None else parse_cpu_limit(performance.cpu_limit)


def memory_bytes(performance: Performance) -> int:
    """Return how much buffers and tables may take together, in bytes; 0: no limit."""
    return 0 if performance.memory_limit is None else parse_memory_limit(performance.memory_limit)


# ------------------------------------------------------------------------------------------------------------- jobs


def policy_of(retention: Retention, timezone: str = "UTC") -> Policy:
    """Return which points stay.  `timezone` is that of the job.  Errors: OptionsError if no rule keeps anything."""
    return Policy(
        last=retention.keep_last or 0,
        hourly=retention.keep_hourly or 0,
        daily=retention.keep_daily or 0,
        weekly=retention.keep_weekly or 0,
        monthly=retention.keep_monthly or 0,
        yearly=retention.keep_yearly or 0,
        within=timedelta(0) if retention.keep_within is None else parse_span(retention.keep_within),
        tags=retention.keep_tag,
        time_zone=parse_time_zone(retention.time_zone or timezone),
    )


def prune_options(retention: Retention, limit: Bandwidth) -> PruneOptions | None:
    """Return how the space of forgotten points is given back; None if it is not."""
    if not retention.prune:
        return None
    return PruneOptions(max_waste=parse_share(retention.max_waste), bandwidth=limit)


def repository_of(config: Config, job: Job) -> Path | None:
    """Return where the points of a job go; None if nothing says."""
    return _path(config.backup_of(job).repository)


def replica_target(replicate: Replicate) -> Target:
    """Return where replicas are kept.  Errors: OptionsError (keys that such a target does not take)."""
    ca, key, certificate = _path(replicate.tls_ca), _path(replicate.tls_key), _path(replicate.tls_cert)
    psk, name = _path(replicate.tls_psk), replicate.tls_hostname
    tls = TlsOptions(ca, certificate, key, psk, name) if any((ca, certificate, key, psk, name)) else None
    options = TargetOptions(
        replicate.format or "",
        replicate.history,
        replicate.overwrite,
        ConnectionOptions(tls=tls),
        DefinitionOptions(networks=NetworkMap.parse(replicate.networks)),
    )
    return target_of(replicate.to, options)


def replica_state(replicate: Replicate) -> Path | None:
    """Return where the state of replicas is; None if nothing says, and their target has no place for it."""
    return _path(replicate.state) or replica_target(replicate).default_state


def replicate_options(backup: Backup, replicate: Replicate, limit: Bandwidth, *, at_once: int = 1) -> ReplicateOptions:
    """Return how VMs are replicated, `at_once` of them at a time.  Errors: OptionsError."""
    return ReplicateOptions(capture_options(backup, limit, at_once=at_once), parse_size(replicate.sample))


def seconds_of_span(text: str | None) -> float | None:
    """Return the seconds of a time of a job (`every`, `jitter`, `timeout`, `objective`); None for None."""
    return None if text is None else parse_span(text).total_seconds()


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
