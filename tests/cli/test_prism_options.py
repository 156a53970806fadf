"""Options that reach a Prism: kinds of accounts, keys, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.cli.prism_options import AUTH_KINDS
from ntxengine.prism import ACCOUNTS
from ntxengine.sim import Simulator, run_in_thread
from ntxengine.sim.config import demo_config
from tests.cli.ntx import assert_refused, ntx
from tests.support.rates import without_rates

KEY = "key-of-a-service-account"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("lab")
    config = without_rates(demo_config(folder / "disks"))
    config.api_key = KEY
    with run_in_thread(config, folder / "state") as sim:
        yield sim


def without(sim: Simulator, *names: str) -> dict[str, str]:
    return {name: value for name, value in sim.env.items() if name not in names}


def test_the_kinds_of_accounts_are_those_of_the_library() -> None:
    assert tuple(ACCOUNTS) == AUTH_KINDS


def test_a_key_from_the_environment_or_a_file_is_taken(lab: Simulator, tmp_path: Path) -> None:
    env = without(lab, "NTX_USERNAME", "NTX_PASSWORD_FILE") | {"NTX_AUTH": "api_key"}
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)

    by_variable = ntx("vms", env=env | {"NTX_API_KEY": KEY})
    by_file = ntx("vms", "--api-key-file", file, env=env)

    assert (by_variable.code, by_file.code, by_variable.err, by_file.err) == (0, 0, "", "")
    assert_refused(ntx("vms", env=env), 2, "NTX_API_KEY", "--api-key-file")
    assert_refused(ntx("vms", "--api", "v3", env=env | {"NTX_API_KEY": KEY}), 2, "an API key is for v4 only")


def test_saml_and_ad_say_what_to_do(lab: Simulator) -> None:
    assert_refused(ntx("vms", "--auth", "saml", env=lab.env), 2, "service account", "api_key")
    assert_refused(ntx("vms", "--auth", "ad", env=lab.env), 2, "user@domain")


def test_the_option_that_a_message_names_can_be_followed(lab: Simulator) -> None:
    env = without(lab, "NTX_CA_FILE")
    refused = ntx("vms", env=env)
    assert_refused(refused, 1, "--fingerprint")
    fingerprint = refused.err.rpartition("--fingerprint ")[2].split()[0]

    ran = ntx("vms", "--fingerprint", fingerprint, env=env)

    assert (ran.code, ran.err) == (0, "")


def test_trust_on_first_use_says_what_it_remembers_and_is_silent_then(lab: Simulator, tmp_path: Path) -> None:
    env = without(lab, "NTX_CA_FILE") | {"XDG_CONFIG_HOME": str(tmp_path / "config")}

    first = ntx("vms", "--trust-on-first-use", env=env)
    again = ntx("vms", "--trust-on-first-use", env=env)

    assert (first.code, again.code, again.err) == (0, 0, "")
    assert "trusted at first use" in first.err
    assert (tmp_path / "config" / "ntx" / "trusted-certificates").read_text().startswith(f"127.0.0.1:{lab.port} ")


def test_an_element_that_is_not_checked_is_warned_of_once(lab: Simulator) -> None:
    ran = ntx("vms", "--element-insecure", env=lab.env)

    assert ran.code == 0
    assert ran.err.count("--element-insecure") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fingerprint", "ab"], "64 hexadecimal digits"),
        (["--element-fingerprint", "zz" * 32], "64 hexadecimal digits"),
        (["--element-name", "no host"], "host name"),
        (["--project", "p1"], "UUID"),
        (["--auth", "kerberos"], "kerberos"),
        (["--insecure", "--fingerprint", "ab" * 32], "contradict"),
    ],
)
def test_options_that_cannot_be_right_are_refused(lab: Simulator, arguments: list[str], words: str) -> None:
    assert_refused(ntx("vms", *arguments, env=lab.env), 2, words)
