"""SIGKILL of an agent in a cycle: the replica is between two generations, and the next agent ends that."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ntxengine.sim import Simulator
from tests.agent.lab import write
from tests.capture.lab import MIB
from tests.cli.ntx import ntx
from tests.cli.process import Process

FILE = """
nutanix: {{prism_central: {url}, username: {username}, password: "{password}", ca_file: {ca_file}}}
backup: {{worker: {worker}, device_dir: {devices}}}
performance: {{bandwidth: {bandwidth}}}
agent: {{state: {folder}/state, socket: {folder}/agent.sock}}
jobs:
  - {{name: standby, vms: [db01], every: 300d, replicate: {{to: kvm:replicas}}}}
"""


class Agents:
    """One agent after another over one state, one target and one cluster."""

    def __init__(self, sim: Simulator, folder: Path) -> None:
        self._sim = sim
        self._folder = folder
        self._file = folder / "agent.yaml"
        (folder / "replicas").mkdir()
        (folder / "replicas" / "README").touch()

    def start(self, bandwidth: str) -> Process:
        """Start an agent, and wait until it knows the VM."""
        told = {name: getattr(self._sim, name) for name in ("username", "password", "ca_file")}
        text = FILE.format(
            url=self._sim.central_url,
            worker=self._sim.worker_id,
            devices=self._sim.world.layout.devices,
            bandwidth=bandwidth,
            folder=self._folder,
            **told,
        )
        self._file.touch(0o600)
        self._file.write_text(text)
        agent = Process(self._folder, "agent", "--config", str(self._file))
        agent.until(lambda: (self._folder / "agent.sock").exists() and self.json("status").get("vm_count"))
        return agent

    def json(self, *arguments: str) -> dict[str, object]:
        ran = ntx("--config", self._file, *arguments, "--json", env={"NTX_SOCKET": str(self._folder / "agent.sock")})
        found: dict[str, object] = ran.json
        return found

    def replica(self) -> dict[str, object]:
        (found,) = self.json("replicas")["replicas"]  # type: ignore[misc]
        return dict(found)

    def has_begun_to_write(self) -> bool:
        return any(self._folder.glob("replicas/.ntx-replicas/*/replica-*/intent.json"))


def test_the_next_agent_brings_a_killed_cycle_to_its_end(simulator: Simulator, tmp_path: Path) -> None:
    agents, disk = Agents(simulator, tmp_path), simulator.config.vms[0].disks[0].path
    agent = agents.start("off")
    try:
        first = ntx("agent", "run", "db01", "--wait", env={"NTX_SOCKET": str(tmp_path / "agent.sock")})
        assert agent.end() == 0
        write(simulator, 0, 0, os.urandom(7 * MIB))
        agent = agents.start("1M")
        agents.json("agent", "run", "db01")
        agent.until(agents.has_begun_to_write)
        agent.kill()
        between = agents.replica()

        agent = agents.start("off")
        agent.until(lambda: agents.replica()["state"] == "whole" and not agents.replica()["running"])
        whole, runs = agents.replica(), agents.json("runs")["runs"]
        assert agent.end() == 0
    finally:
        agent.kill()

    assert first.code == 0, first.err
    assert "db01: generation 1, 2.0 MiB sent" in first.out
    assert (between["state"], between["generation"]) == ("between", 1)
    assert (whole["state"], whole["generation"]) == ("whole", 2)
    told = [(run["work"], run["state"], run["trigger"]) for run in runs]  # type: ignore[attr-defined]
    assert told[:2] == [("replicate", "succeeded", "resume"), ("replicate", "interrupted", "person")]
    (file,) = tmp_path.glob("replicas/db01-*/*.raw")
    subprocess.run(["cmp", file, disk], check=True)
    assert len(simulator.world.state.points) == 1
