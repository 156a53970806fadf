"""What a file of configuration says, as options of commands.  Only what the file says: the rest is left to others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ntxengine.config.file import Config, Profile
from ntxengine.config.meaning import consistency_of, rate_text
from ntxengine.config.part import Part
from ntxengine.config.problems import KeyPath
from ntxengine.config.values import prism_url

CAPTURE = frozenset({"capture"})
EXPORT = frozenset({"export"})
REPLICATE = frozenset({"replicate", "cutover"})
COPYING = CAPTURE | REPLICATE
FREEZING = COPYING | EXPORT
"""What makes a recovery point, and attaches the disks of it."""

_NUTANIX = {
    "username": "--username",
    "password_file": "--password-file",
    "auth": "--auth",
    "api_key_file": "--api-key-file",
    "project": "--project",
    "api": "--api",
    "timeout": "--prism-timeout",
    "ca_file": "--ca-file",
    "fingerprint": "--fingerprint",
    "insecure": "--insecure",
    "trust_on_first_use": "--trust-on-first-use",
    "trust_file": "--trust-file",
    "element_ca_file": "--element-ca-file",
    "element_fingerprint": "--element-fingerprint",
    "element_name": "--element-name",
    "element_insecure": "--element-insecure",
}

_ATTACH = {
    "worker": "--worker",
    "source": "--source",
    "device_dir": "--device-dir",
    "containers": "--containers",
    "nfs_server": "--nfs-server",
    "data_services": "--data-services",
    "repository": "--repository",
}

_FREEZE = {"vss": "--vss", "keep_recovery_point": "--keep-recovery-point", "parallel": "--disks"}

_CAPTURE = {
    "on_lost_tracking": "--on-lost-tracking",
    "audit": "--audit",
    "writer": "--writer",
    "compress": "--compress",
    "compress_again": "--compress-again",
    "max_chain": "--max-chain",
    "retry_for": "--retry-for",
    "tier": "--tier",
    "connections": "--connections",
    "request_size": "--request-size",
    "in_flight": "--in-flight",
    "answer_timeout": "--timeout",
    "flush_timeout": "--flush-timeout",
}

_NOT = {"verify": "--no-verify", "resume": "--no-resume", "volume_groups": "--no-volume-groups"}

_TUNNEL = {"ssh_key_path": "--ssh-key", "known_hosts": "--ssh-known-hosts"}


@dataclass(frozen=True)
class Setting:
    """The value of an option, and where the file says it; `commands`: only of these, None: of all that have it."""

    option: str
    value: Any
    path: KeyPath
    commands: frozenset[str] | None = None


def settings(config: Config, over: Profile | None, profile: str | None) -> Iterator[Setting]:
    """Yield what a file says; `config` is under the profile `over`, whose name is `profile`."""

    def path(section: str, key: str) -> KeyPath:
        own = over is not None and section in dict(over) and key in dict(over)[section].model_fields_set
        return ("profiles", str(profile), section, key) if own else (section, key)

    for each in (*_of_cluster(config), *_of_captures(config), *_of_performance(config), *_of_tunnel(config)):
        section, key = each.path
        yield Setting(each.option, each.value, path(str(section), str(key)), each.commands)


def _of_cluster(config: Config) -> Iterator[Setting]:
    nutanix = config.nutanix
    central, element = nutanix.prism_central, nutanix.prism_element
    if central is not None:
        yield Setting("--prism", prism_url(central), ("nutanix", "prism_central"))
    elif element is not None:
        yield Setting("--prism", prism_url(element), ("nutanix", "prism_element"))
    user = "username" if nutanix.element_username is None else "element_username"
    if central is not None and element is not None and dict(nutanix)[user] is not None:
        yield Setting("--element", prism_url(element), ("nutanix", "prism_element"))
        yield Setting("--element-username", dict(nutanix)[user], ("nutanix", user))
        if nutanix.element_password_file is not None:
            path = ("nutanix", "element_password_file")
            yield Setting("--element-password-file", nutanix.element_password_file, path)
    if nutanix.cluster_uuid is not None:
        yield Setting("--cluster", nutanix.cluster_uuid, ("nutanix", "cluster_uuid"))
    yield from _named(nutanix, "nutanix", _NUTANIX, None)


def _of_captures(config: Config) -> Iterator[Setting]:
    backup = config.backup
    yield from _named(backup, "backup", _ATTACH, None)
    yield from _named(backup, "backup", _FREEZE, FREEZING)
    yield from _named(backup, "backup", _CAPTURE, COPYING)
    if "on_lost_tracking" in backup.model_fields_set and backup.on_lost_tracking != "scan":  # there is nothing to scan
        yield Setting("--on-lost-tracking", backup.on_lost_tracking, ("backup", "on_lost_tracking"), EXPORT)
    if "consistency" in backup.model_fields_set:
        yield Setting("--consistency", consistency_of(backup), ("backup", "consistency"), FREEZING)
    if backup.snapshot_retention_hours is not None:
        path = ("backup", "snapshot_retention_hours")
        yield Setting("--keep-recovery-point", f"{backup.snapshot_retention_hours}h", path, FREEZING)
    if backup.zstd_level:
        yield Setting("--compress", f"zstd:{backup.zstd_level}", ("backup", "zstd_level"), CAPTURE)
    for key, option in _NOT.items():
        if key in backup.model_fields_set:
            yield Setting(option, not dict(backup)[key], ("backup", key), FREEZING)


def _of_performance(config: Config) -> Iterator[Setting]:
    performance = config.performance
    if "max_concurrent_vms" in performance.model_fields_set:
        path = ("performance", "max_concurrent_vms")
        yield Setting("--vms", performance.max_concurrent_vms, path, CAPTURE)
    if performance.cpu_limit is not None:
        yield Setting("--cpu-limit", performance.cpu_limit, ("performance", "cpu_limit"))
    if performance.memory_limit is not None:
        yield Setting("--memory-limit", performance.memory_limit, ("performance", "memory_limit"))
    for key in performance.given(("bandwidth", "bandwidth_limit_mbps")):
        yield Setting("--bandwidth", rate_text(performance), ("performance", key))


def _of_tunnel(config: Config) -> Iterator[Setting]:
    """Yield where the sockets of an export are made."""
    tunnel = config.tunnel
    if tunnel.control_plane_host is None:
        return
    user = "" if tunnel.user is None else f"{tunnel.user}@"
    host = f"[{tunnel.control_plane_host}]" if ":" in tunnel.control_plane_host else tunnel.control_plane_host
    login = f"ssh://{user}{host}:{tunnel.tunnel_port}"
    yield Setting("--tunnel", login, ("tunnel", "control_plane_host"), EXPORT)
    yield from _named(tunnel, "tunnel", _TUNNEL, EXPORT)


def _named(part: Part, section: str, options: dict[str, str], commands: frozenset[str] | None) -> Iterator[Setting]:
    for key, option in options.items():
        if key in part.model_fields_set and (value := dict(part)[key]) is not None:
            yield Setting(option, value, (section, key), commands)
