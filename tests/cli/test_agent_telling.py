"""`ntx agent` tells of a real run by hook and ping, and no secret of ours is in what it tells, nor in its log."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ntxengine.agent.state import State
from ntxengine.sim import Simulator
from tests.agent.conftest import simulator
from tests.cli.process import Process
from tests.cli.test_json import problems

__all__ = ["simulator"]

TOKEN = "f00dfeed-ping-token"

FILE = """
nutanix: {{prism_central: "{url}", username: {username}, password: "${{PW}}", ca_file: {ca_file}}}
backup: {{repository: {folder}/repository, worker: {worker}, device_dir: {devices}}}
agent: {{state: {folder}/state, socket: {folder}/agent.sock, log: {{level: debug, format: {format}}}}}
jobs:
  - name: hourly
    vms: [db01]
    every: 300d
    hooks: {{start: [./tell, "a b"], success: [./tell], failure: [./tell]}}
    pings: {{start: "{ping}/start", success: "{ping}/success", failure: "{ping}/failure"}}
"""

TELL = """#!/bin/sh
cat > {folder}/told-$NTX_EVENT.json
/usr/bin/env > {folder}/told-$NTX_EVENT.env
tr '\\0' '\\n' < /proc/$$/cmdline > {folder}/told-$NTX_EVENT.argv
echo heard of $NTX_EVENT
"""


@pytest.fixture
def pinged() -> Iterator[HTTPServer]:
    """A server that keeps the paths that it is asked for in `paths`."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths = paths  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def serve(folder: Path, sim: Simulator, pinged: HTTPServer, monkeypatch: pytest.MonkeyPatch, log: str) -> Process:
    """Start an agent that is to run db01 once."""
    vm = next(vm for vm in sim.world.vms.values() if vm.name == "db01")
    with closing(State(folder / "state")) as state:
        state.ask(("hourly", vm.id))
    (folder / "tell").write_text(TELL.format(folder=folder))
    (folder / "tell").chmod(0o755)
    file = folder / "agent.yaml"
    file.write_text(
        FILE.format(
            url=sim.central_url,
            username=sim.username,
            ca_file=sim.ca_file,
            folder=folder,
            worker=sim.worker_id,
            devices=sim.world.layout.devices,
            ping=f"http://127.0.0.1:{pinged.server_port}/{TOKEN}",
            format=log,
        )
    )
    monkeypatch.setenv("PW", sim.password)
    monkeypatch.setenv("OTHER_API_KEY", "hush-api-key")
    return Process(folder, "agent", "--config", str(file))


def test_a_run_is_told_by_hook_and_ping_without_any_secret(
    simulator: Simulator, tmp_path: Path, pinged: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve(tmp_path, simulator, pinged, monkeypatch, "text")
    try:
        agent.until(lambda: len(pinged.paths) == 2 and "heard of success" in agent.log)  # type: ignore[attr-defined]
        assert agent.end() == 0
    finally:
        agent.kill()

    assert pinged.paths == [f"/{TOKEN}/start", f"/{TOKEN}/success"]  # type: ignore[attr-defined]
    told = {event: json.loads((tmp_path / f"told-{event}.json").read_text()) for event in ("start", "success")}
    assert [problems(each, "hook.json") for each in told.values()] == [[], []]
    assert told["success"]["run"]["figures"]["kind"] == "full"
    assert told["success"]["run"]["run_id"] == told["start"]["run"]["run_id"]
    assert "a b" in (tmp_path / "told-start.argv").read_text().splitlines()
    everything = agent.log + "".join(each.read_text() for each in tmp_path.glob("told-*"))
    for secret in (simulator.password, TOKEN, "hush-api-key"):
        assert secret not in everything
    assert f"[{told['start']['run']['run_id'][-6:]}]: job 'hourly', VM 'db01'" in agent.log


def test_each_line_of_its_json_log_is_as_its_schema_says_and_names_the_run_that_it_is_about(
    simulator: Simulator, tmp_path: Path, pinged: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve(tmp_path, simulator, pinged, monkeypatch, "json")
    try:
        agent.until(lambda: "heard of success" in agent.log)
        assert agent.end() == 0
    finally:
        agent.kill()

    lines = [json.loads(line) for line in agent.log.splitlines()]
    assert [problem for line in lines for problem in problems(line, "log.json")] == []
    of_run = [line for line in lines if "run_id" in line]
    run_id = json.loads((tmp_path / "told-success.json").read_text())["run"]["run_id"]
    assert {(line["run_id"], line["job"], line["vm_name"]) for line in of_run} == {(run_id, "hourly", "db01")}
    assert "ntxengine.capture.disk" in {line["logger"] for line in of_run}  # which knows nothing of runs
    assert "run_id" not in next(line for line in lines if "serving 1 jobs" in line["text"])
    for secret in (simulator.password, TOKEN, "hush-api-key"):
        assert secret not in agent.log
