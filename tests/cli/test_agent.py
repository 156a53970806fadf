"""`ntx agent` as a process: it serves, reads its file anew, and ends when it is told to."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.agent.state import State
from ntxengine.sim import Simulator, run_in_thread
from tests.agent.lab import two_vms
from tests.cli.ntx import assert_refused, ntx
from tests.cli.process import Process

FILE = """
nutanix:
  prism_central: {url}
  username: {username}
  password: "{password}"
  ca_file: {ca_file}
backup: {{repository: {folder}/repository}}
performance: {{max_concurrent_vms: 2, limits: {{per_host: 1}}}}
agent: {{state: {folder}/state, socket: {folder}/agent.sock, log: {{format: {format}}}}}
jobs:
  - {{name: hourly, vms: ["db*", web01], every: 1h, jitter: 2m, retention: {{keep_last: 2}}}}
  - {{name: nightly, vms: [db01], cron: "0 2 * * *", timezone: Europe/Berlin, windows: ["22:00-06:00"]}}
"""


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    with run_in_thread(two_vms(tmp_path / "disks"), tmp_path / "cluster") as sim:
        yield sim


def write_file(folder: Path, sim: Simulator, log_format: str = "text") -> Path:
    file = folder / "agent.yaml"
    file.write_text(
        FILE.format(
            url=sim.central_url,
            username=sim.username,
            password=sim.password,
            ca_file=sim.ca_file,
            folder=folder,
            format=log_format,
        )
    )
    return file


def has_listed(sim: Simulator) -> bool:
    return any(each.path.endswith("/ahv/config/vms") and each.status == 200 for each in list(sim.requests)[5:])


def test_it_serves_reads_its_file_anew_and_ends(simulator: Simulator, tmp_path: Path) -> None:
    file = write_file(tmp_path, simulator)
    agent = Process(tmp_path, "agent", "--config", str(file))
    try:
        agent.until(lambda: has_listed(simulator))
        second = ntx("agent", "--config", file)
        good = file.read_text()
        file.write_text(good.replace("every: 1h", "evry: 1h"))
        agent.tell(signal.SIGHUP)
        agent.until(lambda: "the one before holds" in agent.log)
        file.write_text(good)
        agent.tell(signal.SIGHUP)
        agent.until(lambda: "was read anew: 2 jobs" in agent.log)
        code = agent.end()
    finally:
        agent.kill()

    assert code == 0
    assert second.code == 11
    assert "another process works with it" in second.err
    assert "serving 2 jobs" in agent.log
    assert "evry" in agent.log
    assert simulator.password not in agent.log
    state = State(tmp_path / "state")
    assert {job for job, _ in state.standings} == {"hourly", "nightly"}
    assert len(state.standings) == 3
    state.close()


def test_its_log_can_be_json(simulator: Simulator, tmp_path: Path) -> None:
    file = write_file(tmp_path, simulator, "json")
    agent = Process(tmp_path, "--config", str(file), "agent", "--state", str(tmp_path / "other"))
    try:
        agent.until(lambda: "serving 2 jobs" in agent.log)
        assert agent.end() == 0
    finally:
        agent.kill()

    assert all(json.loads(line)["level"] for line in agent.log.splitlines())
    assert (tmp_path / "other" / "state.db").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("every: 1h, ", ""), "jobs[0]: never runs: give every or cron"),
        (("backup: {repository:", "tunnel: {ssh_key_path:"), "repository"),
        (("jobs:", "profiles:\n  other: {}\n#"), "the configuration has no jobs"),
    ],
)
def test_what_the_file_lacks_is_said_in_one_line_and_ends_it(
    simulator: Simulator, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    file = write_file(tmp_path, simulator)
    text = file.read_text().replace(*change)
    file.write_text(text if "profiles" not in text else text[: text.index("#")])

    ran = ntx("agent", "--config", file)

    assert ran.code == 2
    assert says in ran.err


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (
            "socket: {folder}/agent.yaml/agent.sock",
            1,
            "agent.socket: the socket {folder}/agent.yaml/agent.sock cannot be",
        ),
        ("socket: {folder}/agent.yaml", 2, "agent.socket: {folder}/agent.yaml: is there, and is no socket"),
        ("socket_group: nosuchgroup", 2, "agent.socket: group 'nosuchgroup': this machine has none of that name"),
        (
            "metrics: {{listen: 127.0.0.1:{port}}}",
            1,
            "agent.metrics.listen: the port {port} of 127.0.0.1 cannot be used",
        ),
        ("metrics: {{listen: 0.0.0.0:{port}}}", 2, "agent.metrics.listen: whoever reaches 0.0.0.0:{port}"),
        (
            "metrics: {{listen: 0.0.0.0:{port}, token_file: none}}",
            2,
            "agent.metrics.token_file {folder}/none: No such file",
        ),
    ],
)
def test_where_it_cannot_listen_it_ends_with_one_line(
    simulator: Simulator, tmp_path: Path, change: str, code: int, says: str
) -> None:
    file = write_file(tmp_path, simulator)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        names = {"folder": str(tmp_path), "port": taken.getsockname()[1]}
        key, _, _ = change.partition(":")
        text = file.read_text()
        if key == "socket":
            text = text.replace(f"socket: {tmp_path}/agent.sock", change.format(**names))
        else:
            text = text.replace("agent: {state", f"agent: {{{change.format(**names)}, state")
        file.write_text(text)

        ran = ntx("agent", "--config", file)

    assert_refused(ran, code, says.format(**names))
    assert not (tmp_path / "agent.sock").exists()


def test_without_a_file_it_says_what_is_missing() -> None:
    ran = ntx("agent")

    assert ran.code == 2
    assert "Give --config FILE" in ran.err
