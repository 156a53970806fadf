"""`ntx sim` in the background, and one simulator to a state folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ntx import COMMAND, assert_refused, environment, ntx


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder with a space in its name; whatever uses it at the end is stopped."""
    folder = tmp_path / "my lab"
    yield folder
    ntx("sim", "--state", folder, "--stop")


def test_a_detached_simulator_serves_when_the_command_returns(state: Path) -> None:
    started = ntx("sim", "--state", state, "--port", "0", "--detach")

    command = f"{started.out.strip()} && exec {' '.join(COMMAND)} vms --json"
    vms = subprocess.run(
        ["sh", "-c", command], env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert started.code == 0, started.err
    assert f"ntx sim --stop --state '{state}'" in started.err
    assert vms.returncode == 0, vms.stderr
    assert '"vm_name": "demo"' in vms.stdout


def test_a_second_simulator_on_a_used_state_folder_is_refused(state: Path) -> None:
    first = ntx("sim", "--state", state, "--port", "0", "--detach", "--json").json

    for again in (("--detach",), ()):
        refused = ntx("sim", "--state", state, "--port", "0", *again)
        assert_refused(refused, 11, str(first["pid"]), "--stop", "--state")


def test_a_refused_simulator_tells_programs_so_once_and_leaves_the_log_of_the_other(state: Path) -> None:
    ntx("sim", "--state", state, "--port", "0", "--detach")
    log = state / "sim.log"
    log.write_text("of the first\n")

    refused = ntx("sim", "--state", state, "--detach", "--json", env={"NTX_PROGRESS": "json"})

    assert refused.json["error"]["message"].startswith("state folder ")
    assert refused.json["error"]["class"] == "LockedError"
    assert log.read_text().startswith("of the first\n")


def test_under_nohup_a_hang_up_stays_ignored(state: Path) -> None:
    arguments = ["nohup", *COMMAND, "sim", "--state", str(state), "--port", "0", "--detach", "--json"]

    started = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=True, timeout=60)

    status = Path(f"/proc/{json.loads(started.stdout)['pid']}/status").read_text()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert ignored & 1 << (signal.SIGHUP - 1)


def test_a_stopped_simulator_is_gone_and_its_folder_free(state: Path) -> None:
    pid = ntx("sim", "--state", state, "--port", "0", "--detach", "--json").json["pid"]

    stopped = ntx("sim", "--state", state, "--stop")
    left = (state / "sim.lock").read_text()
    nobody = ntx("sim", "--state", state, "--stop")
    again = ntx("sim", "--state", state, "--port", "0", "--detach")

    assert stopped.code == 0
    assert str(pid) in stopped.err
    assert left == ""
    assert_refused(nobody, 10, "no simulator uses", str(state))
    assert again.code == 0, again.err


def test_the_number_in_a_lock_file_that_nobody_holds_is_not_signalled(state: Path) -> None:
    state.mkdir()
    (state / "sim.lock").write_text(f"{os.getpid()}\n")

    assert_refused(ntx("sim", "--state", state, "--stop"), 10, "no simulator uses")


def test_a_detached_simulator_that_cannot_serve_says_why(state: Path, tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text("vms:\n  - {name: db01, colour: red}\n")

    refused = ntx("sim", "--state", state, "--config", config, "--port", "0", "--detach")

    assert_refused(refused, 2, "colour")
