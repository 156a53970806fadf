"""What a configuration means to captures, Prism, retention and the limits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ntxengine.capture import Audit, CaptureOptions
from ntxengine.config import meaning, secrets
from ntxengine.config.file import Config
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.tier import Tier
from ntxengine.errors import OptionsError
from ntxengine.images.choice import ImageOptions
from ntxengine.prism.reach import endpoints
from ntxengine.units import MIB
from tests.config.test_reading import read

UNLIMITED = Bandwidth(0)


def backup_of(text: str) -> CaptureOptions:
    return meaning.capture_options(read(f"backup: {text}").config.backup, UNLIMITED)


def test_nothing_said_of_captures_is_what_captures_do_by_themselves() -> None:
    said = backup_of("{}")

    assert said == CaptureOptions(copy=said.copy)
    assert said.copy == CaptureOptions().copy.__class__(bandwidth=UNLIMITED)


def test_every_key_of_backup_is_an_option_of_captures() -> None:
    said = backup_of(
        "{consistency: crash, vss: full, on_lost_tracking: fail, verify: no, retry_for: 5m, keep_recovery_point: 36h,"
        " parallel: 2, resume: no, max_chain: 7, audit: 2%, volume_groups: no, compress: 'zstd:3',"
        " compress_again: yes, connections: 2, in_flight: 3, request_size: 1M, answer_timeout: 90, flush_timeout: 1h}"
    )

    copied = said.copy
    assert said == CaptureOptions(
        consistency="crash",
        vss="full",
        on_lost_tracking="fail",
        copy=copied,
        verify=False,
        retry_for_s=300,
        expiry=timedelta(hours=36),
        parallel=2,
        resume=False,
        max_chain=7,
        audit=Audit(share=0.02),
        volume_groups=False,
        image=ImageOptions("own", 3),
        compress_again=True,
    )
    assert (copied.connections, copied.in_flight, copied.request_size) == (2, 3, MIB)
    assert (copied.timeout_s, copied.flush_timeout_s) == (90, 3600)


def test_a_tier_gives_how_a_copy_begins() -> None:
    said = backup_of("{tier: das-sata}").copy

    assert said == CaptureOptions(copy=CaptureOptions().copy.on(Tier.HYBRID)).copy.__class__(
        bandwidth=UNLIMITED, request_size=said.request_size, begin_in_flight=said.begin_in_flight
    )
    assert said.request_size == CaptureOptions().copy.on(Tier.HYBRID).request_size


def test_the_ways_to_the_disks() -> None:
    backup = read(
        "backup: {device_dir: /dev/x, containers: c, source: nfs, nfs_server: h, data_services: 'd:3260'}"
    ).config.backup

    found = meaning.attach_options(backup, "worker-id")

    assert (found.worker_id, found.device_dir, found.containers) == ("worker-id", Path("/dev/x"), Path("/etc/c"))
    assert (found.source, found.nfs_server, found.data_services) == ("nfs", "h", "d:3260")
    assert meaning.attach_options(Config().backup).device_dir == Path("/dev/disk/by-id")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("{}", 0),
        ("{bandwidth_limit_mbps: 500}", 62_500_000),
        ("{bandwidth_limit_mbps: 0.5}", 62_500),
        ("{bandwidth_limit_mbps: 0}", 0),
        ("{bandwidth: 500M}", 500 * MIB),
        ("{bandwidth: off}", 0),
    ],
)
def test_bandwidth_is_in_bits_or_in_bytes(text: str, rate: int) -> None:
    assert meaning.bandwidth(read(f"performance: {text}").config.performance).rate == rate


def test_cpu_and_memory_are_a_share_and_bytes() -> None:
    performance = read("performance: {cpu_limit: 5%, memory_limit: 512M}").config.performance

    assert meaning.cpu_share(performance) == meaning.bandwidth(performance).cpu_limit == 0.05
    assert meaning.memory_bytes(performance) == 512 * MIB
    assert meaning.cpu_share(Config().performance) is None


def test_retention_is_the_policy_of_forget_and_the_options_of_prune() -> None:
    retention = read(
        "nutanix: {prism_central: p, username: u}\nbackup: {repository: /r}\njobs: [{name: a, vms: [x], every: 1h, "
        "timezone: Europe/Berlin, retention: {keep_last: 1, keep_hourly: 2, keep_daily: 3, keep_weekly: 4, "
        "keep_monthly: 5, keep_yearly: 6, keep_within: 2d, keep_tag: [release], max_waste: 5%}}]"
    ).config.jobs[0].retention  # fmt: skip
    assert retention is not None

    policy = meaning.policy_of(retention, "Europe/Berlin")
    pruning = meaning.prune_options(retention, UNLIMITED)

    assert list(policy.counts.values()) == [1, 2, 3, 4, 5, 6]
    assert (policy.within, policy.tags, policy.time_zone) == (
        timedelta(days=2),
        ("release",),
        ZoneInfo("Europe/Berlin"),
    )
    assert pruning is not None
    assert pruning.max_waste == 0.05
    assert meaning.prune_options(retention.model_copy(update={"prune": False}), UNLIMITED) is None


def test_one_prism_alone_is_asked_as_whatever_it_is() -> None:
    nutanix = read("nutanix: {prism_element: 'https://pe', username: u, password: p}").config.nutanix

    login = endpoints(meaning.reach(nutanix), lambda name: secrets.required_secret(nutanix, name))

    assert login.central == login.element
    assert login.central is not None
    assert (login.central.host, login.central.is_element) == ("pe", False)


def test_a_key_goes_to_prism_central_alone() -> None:
    text = "nutanix: {prism_central: pc, prism_element: pe, auth: api_key, api_key: k}"
    nutanix = read(text).config.nutanix

    login = endpoints(meaning.reach(nutanix), lambda name: secrets.required_secret(nutanix, name))

    assert login.central == login.element
    assert login.central is not None
    assert login.central.password.reveal() == "k"


# ---------------------------------------------------------------------------------------------------------- secrets


def test_a_secret_is_of_the_file_or_of_a_file_it_names_or_of_systemd(tmp_path: Path) -> None:
    for name, text in (("named", "of a file\nsecond line"), ("ntx-password", "of systemd"), ("ntx-api-key", "key")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    said = [
        secrets.secret_of(
            read(f"nutanix: {{prism_central: p, username: u{more}}}").config.nutanix, "password", environment
        )
        for more in (", password: said", f", password_file: {tmp_path}/named", "")
    ]

    assert said == ["said", "of a file", "of systemd"]
    assert secrets.secret_of(Config().nutanix, "api_key", environment) == "key"
    assert secrets.secret_of(Config().nutanix, "password", {}) is None


def test_the_account_of_a_prism_element_is_its_own_or_the_same() -> None:
    both = "nutanix: {prism_central: p, prism_element: e, username: u, password: one"
    same, own, other = (
        read(f"{both}{more}}}").config.nutanix
        for more in ("", ", element_username: v, element_password: two", ", element_username: v")
    )

    assert secrets.secret_of(same, "element_password", {}) == "one"
    assert secrets.secret_of(own, "element_password", {}) == "two"
    assert secrets.secret_of(other, "element_password", {}) is None
    assert meaning.reach(own).element_username == "v"


def test_a_file_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush\n")
    file.chmod(0o644)
    said: list[str] = []

    nutanix = read(f"nutanix: {{prism_central: p, username: u, password_file: {file}}}").config.nutanix

    assert secrets.secret_of(nutanix, "password", warn=said.append) == "hush"
    assert said == [f"password file {file} can be read by every user of this machine: chmod 600 {file}"]


def test_a_secret_that_is_nowhere_is_asked_for_by_its_keys() -> None:
    with pytest.raises(OptionsError, match=r"nutanix\.password.*nutanix\.password_file.*ntx-password"):
        secrets.required_secret(Config().nutanix, "password")
