"""`--element`: a Prism Element with an account of its own, beside Prism Central."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import Simulator, run_in_thread
from ntxengine.sim.config import Family, demo_config
from tests.cli.ntx import Ran, assert_refused, ntx
from tests.support.rates import without_rates

CENTRAL_PASSWORD, ELEMENT_PASSWORD = "of-central", "of-the-element"


def two_passwords(folder: Path, *families: Family) -> Iterator[Simulator]:
    config = without_rates(demo_config(folder / "disks"))
    config.password, config.element_password, config.families = CENTRAL_PASSWORD, ELEMENT_PASSWORD, list(families)
    with run_in_thread(config, folder / "state") as sim:
        yield sim


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    yield from two_passwords(tmp_path_factory.mktemp("new"), "v3", "v4")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A Prism Central without v4."""
    yield from two_passwords(tmp_path_factory.mktemp("old"), "v3")


def both(sim: Simulator, **changed: str) -> dict[str, str]:
    """Return the environment that names both Prisms."""
    account = {"NTX_PRISM": sim.central_url, "NTX_ELEMENT": sim.element_url, "NTX_ELEMENT_USERNAME": sim.username}
    kept = {name: value for name, value in sim.env.items() if name != "NTX_PASSWORD_FILE"}
    return {**kept, **account, "NTX_PASSWORD": CENTRAL_PASSWORD, "NTX_ELEMENT_PASSWORD": ELEMENT_PASSWORD, **changed}


def spoken(ran: Ran) -> str:
    """Return the API that `-v` says is spoken."""
    assert ran.code == 0, ran
    found = re.search(r"Prism \S+: (v[34]) of a Prism", ran.err)
    assert found is not None, ran.err
    return found[1]


def test_v4_is_used_at_the_central_and_v3_at_the_element_where_there_is_none(new: Simulator, old: Simulator) -> None:
    assert spoken(ntx("vms", "-v", env=both(new))) == "v4"
    assert spoken(ntx("vms", "-v", env=both(old))) == "v3"


def test_a_forced_family_needs_the_password_of_its_own_prism_alone(new: Simulator) -> None:
    v3 = ntx("vms", "-v", "--api", "v3", env=both(new, NTX_PASSWORD=""))
    v4 = ntx("vms", "-v", "--api", "v4", env=both(new, NTX_ELEMENT_PASSWORD=""))

    assert (spoken(v3), spoken(v4)) == ("v3", "v4")


def test_the_password_of_the_element_comes_from_its_file(old: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(ELEMENT_PASSWORD + "\n")
    file.chmod(0o600)
    env = both(old, NTX_ELEMENT_PASSWORD="")

    assert spoken(ntx("vms", "-v", "--element-password-file", file, env=env)) == "v3"
    assert_refused(ntx("vms", env=env), 2, "NTX_ELEMENT_PASSWORD", "--element-password-file")


def test_the_password_of_the_central_is_not_tried_at_the_element(old: Simulator) -> None:
    assert_refused(ntx("vms", env=both(old, NTX_ELEMENT_PASSWORD=CENTRAL_PASSWORD)), 12, old.config.element_host)
    assert_refused(ntx("vms", env=both(old, NTX_ELEMENT="", NTX_ELEMENT_USERNAME="")), 1, "--element-username")


def test_an_element_that_refuses_us_is_a_warning_where_there_is_v4(new: Simulator) -> None:
    ran = ntx("vms", "-v", env=both(new, NTX_ELEMENT_PASSWORD="wrong"))

    assert spoken(ran) == "v4"
    assert f"Prism Element {new.config.element_host}:{new.port} could not take the place of v4" in ran.err


def test_an_element_and_its_account_are_given_together(new: Simulator) -> None:
    assert_refused(ntx("vms", env=both(new, NTX_ELEMENT_USERNAME="")), 2, "--element-username")
    assert_refused(ntx("vms", "--element-username", "u", env=new.env), 2, "--element URL")


def test_the_certificate_of_the_element_is_judged_by_its_own_options(old: Simulator) -> None:
    env = both(old)
    ca_file = env.pop("NTX_CA_FILE")

    refused = ntx("vms", "--insecure", env=env)
    by_authority = ntx("vms", "-v", "--insecure", "--element-ca-file", ca_file, env=env)
    assert_refused(refused, 1, old.config.element_host, "--element-fingerprint")
    fingerprint = refused.err.rpartition("--element-fingerprint ")[2].split()[0]
    pinned = ntx("vms", "-v", "--insecure", "--element-fingerprint", fingerprint, env=env)
    unchecked = ntx("vms", "-v", "--insecure", "--element-insecure", env=env)

    assert {spoken(ran) for ran in (by_authority, pinned, unchecked)} == {"v3"}
    assert "read its password" in unchecked.err
