"""The seed's file loads as it is, and each of its names and values means what it should."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.config import meaning, secrets
from ntxengine.config.file import Config
from ntxengine.config.reading import Loaded, parse
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.prism.reach import Login, endpoints
from tests.config.seed import ENVIRONMENT, PASSWORD, SEED


def load(text: str = SEED) -> Loaded:
    return parse(text.encode(), "agent.yaml", folder=Path("/etc/ntx"), environment=ENVIRONMENT)


@pytest.fixture
def config() -> Config:
    return load().config


def login(config: Config) -> Login:
    return endpoints(meaning.reach(config.nutanix), lambda name: secrets.required_secret(config.nutanix, name))


def test_it_loads_without_a_warning() -> None:
    assert load().warnings == ()


def test_prism_central_and_prism_element_are_two_endpoints(config: Config) -> None:
    found = login(config)

    assert found.central is not None
    assert found.element is not None
    assert (found.central.host, found.central.port) == ("prism-central.company.com", 9440)
    assert (found.element.host, found.element.port) == ("prism-element.company.com", 9440)
    assert (found.central.is_element, found.element.is_element) == (False, True)


def test_username_and_password_are_those_of_both(config: Config) -> None:
    found = login(config)

    for endpoint in (found.central, found.element):
        assert endpoint is not None
        assert endpoint.username == "sendense-backup@company.com"
        assert endpoint.password.reveal() == PASSWORD


def test_the_password_is_in_no_text_of_the_configuration(config: Config) -> None:
    assert PASSWORD not in repr(config) + str(config) + config.model_dump_json() + repr(load())


def test_cluster_uuid_is_kept_as_it_is(config: Config) -> None:
    assert config.nutanix.cluster_uuid == "12345678-1234-5678-9012-123456789012"


def test_both_methods_mean_changed_regions() -> None:
    diff = meaning.capture_options(load().config.backup, Bandwidth(0))
    cbt = meaning.capture_options(load(SEED.replace('"snapshot_diff"', "cbt")).config.backup, Bandwidth(0))

    assert (diff.scan, diff.full) == (False, False)
    assert (cbt.scan, cbt.full, cbt.on_lost_tracking) == (False, False, diff.on_lost_tracking)


def test_consistency_application_is_app(config: Config) -> None:
    assert meaning.capture_options(config.backup, Bandwidth(0)).consistency == "app"


def test_snapshot_retention_hours_is_the_expiry_of_the_recovery_point(config: Config) -> None:
    assert meaning.capture_options(config.backup, Bandwidth(0)).expiry == timedelta(hours=24)


def test_max_concurrent_vms_is_how_many_at_a_time(config: Config) -> None:
    assert config.performance.max_concurrent_vms == 5


def test_snapshot_timeout_minutes_is_half_an_hour(config: Config) -> None:
    found = meaning.login(config, lambda _: PASSWORD)

    for endpoint in (found.central, found.element):
        assert endpoint is not None
        assert endpoint.snapshot_timeout_s == 1800


def test_bandwidth_limit_mbps_is_in_millions_of_bits_and_one_for_the_process(config: Config) -> None:
    limit = meaning.bandwidth(config.performance)

    options = meaning.capture_options(config.backup, limit)

    assert limit.rate == 500 * 10**6 // 8
    assert options.copy.bandwidth is limit


def test_the_tunnel_is_an_ssh_server_and_a_key(config: Config) -> None:
    gateway = meaning.tunnel_gateway(config.tunnel)

    assert gateway is not None
    assert str(gateway.login) == "control.sendense.com:443"
    assert gateway.options.key == Path("/opt/sendense/ssh/nutanix_tunnel_key")
