"""What does an agent with hundreds of VMs take: while it captures, and while nothing is due?

    python bench/agent_idle.py [--vms 500] [--cycles 3] [--at-once 20] [--longest 1800] [--idle 120] [--out FILE]

A real `ntx agent`, a simulated cluster, and disks that are small but real.  First every VM is captured `--cycles`
times, `--at-once` of them at a time, or for `--longest` seconds; then a reload leaves nothing to do for `--idle`
seconds, one list of the VMs in them.  Memory is what the agent and its children have in it together (RSS; pages that
they share count twice), CPU what they all took, also those that have ended by then, in parts of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from record import provenance

from ntxengine.sim import SimConfig, Simulator, run_in_thread
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, VmConfig

KIB = 1 << 10
MIB = 1 << 20
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S = 5.0
NONE_REACHES = 1_000_000

CONFIGURATION = """
nutanix: {{prism_central: "{url}", username: {username}, password_file: {password}, ca_file: {ca}}}
backup: {{repository: {folder}/repository, worker: {worker}, device_dir: {devices}}}
performance: {{max_concurrent_vms: {at_once}}}
agent: {{state: {folder}/state, socket: {folder}/socket, log: {{level: warning}}}}
jobs: [{{name: cycle, vms: ["vm*"], {when}, retention: {{keep_last: 2}}}}]
"""
ALWAYS = 'cron: "* * * * *"'
NEVER = "every: 366d"


def cluster(folder: Path, count: int) -> SimConfig:
    """Return a cluster whose VMs have a disk of a MiB with 64 KiB in it, each."""
    folder.mkdir()
    vms = []
    for number in range(count):
        disk = folder / f"vm{number:03d}.raw"
        disk.write_bytes(os.urandom(64 * KIB))
        os.truncate(disk, MIB)
        vms.append(VmConfig(f"vm{number:03d}", disks=[DiskConfig(disk)], guest_tools=GuestToolsConfig()))
    config = SimConfig(vms=vms)
    config.limits.requests_per_s = config.limits.api_requests_per_s = NONE_REACHES
    config.limits.api_rates.clear()
    return config


class Agent:
    """The process, and what it takes."""

    def __init__(self, sim: Simulator, folder: Path, at_once: int) -> None:
        self._sim, self._folder, self._at_once = sim, folder, at_once
        self._file = folder / "agent.yaml"
        self.configure(ALWAYS)
        self._log = open(folder / "log", "wb")  # noqa: SIM115
        command = [sys.executable, "-m", "ntxengine", "agent", "--config", str(self._file)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def configure(self, when: str) -> None:
        sim = self._sim
        values = {"url": sim.central_url, "username": sim.username, "password": sim.state_dir / "password"}
        values |= {"ca": sim.ca_file, "folder": self._folder, "worker": sim.worker_id, "at_once": self._at_once}
        self._file.write_text(CONFIGURATION.format(**values, devices=sim.world.layout.devices, when=when))

    def reload(self, when: str) -> None:
        self.configure(when)
        self.process.send_signal(signal.SIGHUP)

    def captures(self) -> dict[str, int]:
        """Return how many runs there are, by state."""
        file = f"file:{self._folder}/state/state.db?mode=ro"
        with suppress(sqlite3.Error), closing(sqlite3.connect(file, uri=True)) as database:
            return dict(database.execute("SELECT state, count(*) FROM runs GROUP BY state"))
        return {}

    def tree(self) -> list[int]:
        """Return the agent and what it started."""
        parents = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                parents[int(entry.name)] = int(stat_of(int(entry.name))[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def memory(self) -> tuple[int, int]:
        """Return the bytes of the agent, and of all its processes."""
        sizes = []
        for pid in self.tree():
            with suppress(OSError):
                sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE)
        return sizes[0], sum(sizes)

    def cpu_s(self) -> float:
        """Return the seconds of all of them; a child that ends is in those of its parent."""
        found = 0.0
        for pid in self.tree():
            with suppress(OSError):
                found += sum(map(int, stat_of(pid)[11:15])) * TICK_S
        return found


def stat_of(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextmanager
def agent(sim: Simulator, folder: Path, at_once: int) -> Iterator[Agent]:
    running = Agent(sim, folder, at_once)
    try:
        yield running
    finally:
        running.process.terminate()
        code = running.process.wait(300)
        if code != 0:
            sys.stderr.write((folder / "log").read_text()[-3000:])


def watch(running: Agent, is_over: Any) -> dict[str, Any]:
    """Sample until it is over."""
    began, before = time.monotonic(), running.cpu_s()
    samples: list[tuple[float, int, int]] = []
    while not is_over():
        time.sleep(SAMPLE_S)
        samples.append((time.monotonic() - began, *running.memory()))
    seconds = time.monotonic() - began
    each = max(1, len(samples) // 20)
    return {
        "seconds": round(seconds, 1),
        "cpu_of_a_core": round((running.cpu_s() - before) / seconds, 4),
        "mib_most": round(max(all_of_them for _, _, all_of_them in samples) / MIB, 1),
        "mib_at_the_end": round(samples[-1][2] / MIB, 1),
        "agent_mib_over_time": [f"{at:.0f} s: {own / MIB:.1f}" for at, own, _ in samples[::each]],
    }


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        sim = stack.enter_context(run_in_thread(cluster(folder / "disks", arguments.vms), folder / "cluster"))
        running = stack.enter_context(agent(sim, folder, arguments.at_once))
        wanted = arguments.vms * arguments.cycles
        latest = time.monotonic() + arguments.longest
        capturing = watch(
            running, lambda: running.captures().get("succeeded", 0) >= wanted or time.monotonic() > latest
        )
        asked = len(sim.requests)
        running.reload(NEVER)
        while running.captures().get("running"):
            time.sleep(1)
        end = time.monotonic() + arguments.idle
        idle = watch(running, lambda: time.monotonic() >= end)
        idle["lists_of_vms"] = sum(is_list(each.path) for each in list(sim.requests)[asked:])
        found = running.captures()
    return {"capturing": {**capturing, "runs": found}, "idle": idle}


def is_list(path: str) -> bool:
    return path.endswith("/ahv/config/vms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=500)
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--longest", type=float, default=1800)
    parser.add_argument("--idle", type=float, default=120)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments)
        record = {**provenance(__doc__, Path(folder)), **found}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
