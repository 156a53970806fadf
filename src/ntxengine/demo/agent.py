"""The agent: two VMs captured by a schedule and when asked, a repository that is gone for a while, a clean stop."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ntxengine.demo.cluster import NTX, Cluster
from ntxengine.demo.proof import Prover
from ntxengine.demo.workplace import Workplace
from ntxengine.errors import ToolError
from ntxengine.units import MIB

VMS = ("db01", "web01")
DISK_SIZE = 96 * MIB
DATA_SIZE = 48 * MIB
WRITES = 40
WAIT_S = 150.0
STOP_S = 60.0
_POLL_S = 0.2
_SCHEDULE_POLL_S = 2.0
"""Each question is a program that takes a part of a second of a processor."""
_NOT_YET = (10, 75)
"""What commands end with when there is no socket yet, or nobody answers."""

_CLUSTER = """\
cluster_name: demo-cluster
vms:
{vms}
"""
_VM = """\
  - name: {name}
    disks:
      - {{path: {disk}}}
"""

_CONFIG = """\
nutanix:
  prism_central: ${NTX_PRISM}
  prism_element: ${NTX_PRISM_ELEMENT}
  username: ${NTX_USERNAME}
  password_file: ${NTX_PASSWORD_FILE}
  ca_file: ${NTX_CA_FILE}
backup:
  repository: repository
  worker: ${NTX_WORKER}
  device_dir: ${NTX_DEVICE_DIR}
jobs:
  - name: servers
    vms: ["*01"]
    every: 1m
    objective: 5m
    retention: {keep_last: 3}
agent:
  state: state
  socket: agent.sock
"""


class AgentDemo:
    """The workflow in a workplace."""

    def __init__(self, at: Workplace) -> None:
        self._at = at
        self._random = random.Random(20261130)
        self._config = at.name / "agent.yaml"
        self._disks = {name: at.folder / "disks" / f"{name}.raw" for name in VMS}

    def run(self) -> None:
        """Run all of it.  Errors: ToolError, OptionsError; NtxError if a proof failed."""
        at = self._at
        at.begin()
        vms = "".join(_VM.format(name=name, disk=self._make(disk)) for name, disk in self._disks.items())
        cluster = Cluster(at.beside, at.name / "cluster", _CLUSTER.format(vms=vms))
        with cluster:
            at.shell.environment |= cluster.environment | {
                "NTX_SOCKET": str(at.name / "agent.sock"),
                "NTX_REPOSITORY": str(at.name / "repository"),
            }
            self._configure(cluster)
            with AgentProcess(at, self._config) as agent:
                self._cycles()
                self._failure()
                at.title("Metrics, for Prometheus")
                self._show_metrics()
                at.title("A clean stop")
                agent.stop()
            proofs = self._prove()
        at.end(f"{len(proofs.proofs)} proofs, none failed")

    def _make(self, disk: Path) -> Path:
        disk.parent.mkdir(exist_ok=True)
        with disk.open("wb") as file:
            file.write(self._random.randbytes(DATA_SIZE))
            file.truncate(DISK_SIZE)
        return disk

    def _configure(self, cluster: Cluster) -> None:
        at = self._at
        at.title("Two VMs on a cluster (simulated), and what is to be captured when")
        at.say("")
        at.say(f"$ {shlex.join(['ntx', *cluster.command])} &")
        at.say(f"$ . {cluster.connect}")
        at.say(f"$ cat {self._config}")
        (at.beside / self._config).write_text(_CONFIG)
        at.say(_CONFIG.rstrip())
        at.ntx("config", "check", str(self._config))

    def _cycles(self) -> None:
        at = self._at
        at.title("The first cycle is asked for: both VMs, whole")
        for name in VMS:
            at.ntx("agent", "run", name, "--wait")
        at.title("The guests work; the schedule captures what changed")
        count = self._count("succeeded")
        self._write()
        self._until("both VMs are captured by the schedule", lambda: self._count("succeeded") >= count + len(VMS))
        at.ntx("status")
        at.ntx("runs")

    def _failure(self) -> None:
        at = self._at
        repository, away = at.name / "repository", at.name / "not-mounted"
        at.title("The repository is not mounted any more: nothing is written into the empty folder")
        self._move(repository, away)
        (at.beside / repository).mkdir()
        at.ntx("agent", "run", VMS[0], "--wait", good=(1,))
        at.ntx("status", "--check", good=(1,))
        at.title("It is back: the agent sees it by itself, within a minute")
        count = self._count("succeeded")
        self._write()
        (at.beside / repository).rmdir()  # fails, if something was written there
        self._move(away, repository)
        self._until("both VMs are captured again", lambda: self._count("succeeded") >= count + len(VMS))
        at.ntx("status", "--check")

    def _move(self, source: Path, target: Path) -> None:
        self._at.say("")
        self._at.say(f"$ mv {source} {target}")
        (self._at.beside / source).rename(self._at.beside / target)

    def _write(self) -> None:
        for disk in self._disks.values():
            with disk.open("r+b") as file:
                for _ in range(WRITES):
                    file.seek(self._random.randrange(DISK_SIZE - 4096))
                    file.write(self._random.randbytes(4096))

    def _show_metrics(self) -> None:
        """Show some of them, as `curl` would."""
        at = self._at
        wanted = ("ntx_agent_runs_total", "ntx_agent_stored_bytes_total", "ntx_agent_point_age", "ntx_agent_failures")
        text = at.shell.quietly("curl", "-s", "--unix-socket", str(at.name / "agent.sock"), "http://ntx/v1/metrics")
        at.say("")
        at.say(
            f"$ curl -s --unix-socket {at.name / 'agent.sock'} http://ntx/v1/metrics | grep -E '^({'|'.join(wanted)})'"
        )
        for line in text.splitlines():
            if line.startswith(wanted):
                at.say(line)

    def _prove(self) -> Prover:
        at = self._at
        at.title("Proofs, by tools that are not ours")
        # What the schedule has captured last may be older than the last write.
        for name in VMS:
            at.shell.quietly(*NTX, "capture", name)
        at.say("")
        prover = Prover(at.shell)
        newest = {point["vm_name"]: point for point in json.loads(at.shell.quietly(*NTX, "points", "--json"))["points"]}
        for name, disk in self._disks.items():
            image = Path(newest[name]["disks"][0]["path"])
            prover.image_is_sound(image, f"{name}, newest point")
            prover.image_holds(image, disk, f"{name}, newest point")
        prover.check()
        at.ntx("sweep", "--dry-run")
        return prover

    # -------------------------------------------------------------------------------------------------- pieces

    def _count(self, state: str) -> int:
        runs: list[dict[str, Any]] = json.loads(self._at.shell.quietly(*NTX, "runs", "--json"))["runs"]
        return sum(run["state"] == state for run in runs)

    def _until(self, what: str, is_so: Callable[[], bool]) -> None:
        self._at.say(f"waiting until {what} ...")
        wait_until(what, is_so, every_s=_SCHEDULE_POLL_S)


class AgentProcess:
    """A context: the agent runs, its log goes to a file; ended with us whatever happens."""

    def __init__(self, at: Workplace, config: Path) -> None:
        self._at = at
        self._command = ("agent", "--config", str(config))
        self._log = at.name / "agent.log"
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        at = self._at
        at.title("The agent")
        at.say("")
        at.say(f"$ {shlex.join(['ntx', *self._command])} 2> {self._log} &")
        with (at.beside / self._log).open("wb") as log:
            # If we are killed, the kernel ends the agent for us.
            self._process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "TERM", "--", *NTX, *self._command),
                cwd=at.beside,
                env=at.shell.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until("the agent answers", self._is_ready)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._end()

    def stop(self) -> None:
        """Tell it to stop, wait, and show how its log ends.  Errors: ToolError, if it does not end as it should."""
        self._at.say("")
        self._at.say("$ kill -TERM %ntx; wait %ntx; tail -n 3 " + str(self._log))
        self._process.terminate()
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            code = None
        for line in self._last_lines():
            self._at.say(line)
        if code != 0:
            raise ToolError(
                f"ntx agent {'did not end' if code is None else f'ended with {code}'}; its log: {self._log}"
            )

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise ToolError(f"ntx agent ended with {self._process.returncode}: {' / '.join(self._last_lines())}")
        answer = json.loads(self._at.shell.quietly(*NTX, "status", "--json", good=(0, *_NOT_YET)) or "{}")
        return bool(answer.get("vm_count"))

    def _last_lines(self) -> list[str]:
        return (self._at.beside / self._log).read_text(errors="replace").splitlines()[-3:]

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def wait_until(what: str, is_so: Callable[[], bool], every_s: float = _POLL_S) -> None:
    """Return when it is.  Errors: ToolError, if it is not after a while."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise ToolError(f"{what}: not after {WAIT_S:g} s")
        time.sleep(every_s)
