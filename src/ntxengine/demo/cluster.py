"""The simulated cluster: `ntx sim` in the background, ended with us whatever happens."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import urlsplit

from ntxengine.errors import ToolError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05

NTX = (sys.executable, "-m", "ntxengine.cli.main")

_CONFIG = """\
cluster_name: demo-cluster
containers:
  - {{name: default}}
  - {{name: fast}}
vms:
  - name: {vm}
    guest_tools: {{installed: true, enabled: true, reachable: true, can_quiesce: true}}
    disks:
      - {{path: {system}}}
      - {{path: {data}, container: fast}}
    cdroms:
      - {{path: tools.iso, size: 1MiB}}
"""


def demo_cluster(vm: str, *, system: Path, data: Path) -> str:
    """Return the configuration of a cluster that runs one VM with two disks."""
    return _CONFIG.format(vm=vm, system=system.absolute(), data=data.absolute())


class Cluster:
    """A context: the simulator runs, and `.environment` is how to reach it.

    `folder` is seen from `place`, which is where the simulator is started; `config` is its configuration.
    """

    def __init__(self, place: Path, folder: Path, config: str) -> None:
        self._place = place
        self._folder = place / folder
        self.connect = folder / "state" / "connect.env"
        self._below = folder
        self.command = self._command(0)
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self._folder.mkdir(parents=True)
        (self._folder / "cluster.yaml").write_text(config)

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start the simulator, and wait until it serves; once more, after stop(), at the same addresses.

        Errors: ToolError.
        """
        (self._place / self.connect).unlink(missing_ok=True)
        self._log = (self._folder / "sim.log").open("ab")
        # If we are killed, the kernel ends the simulator for us.
        command = ("setpriv", "--pdeathsig", "TERM", "--", *NTX, *self.command)
        self._process = subprocess.Popen(
            command,
            cwd=self._place,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        try:
            self.environment = self._wait_until_it_serves()
        except BaseException:
            self.stop()
            raise
        self.command = self._command(urlsplit(self.environment["NTX_PRISM"]).port or 0)

    def _command(self, port: int) -> tuple[str, ...]:
        config, state = self._below / "cluster.yaml", self._below / "state"
        return "sim", "--config", str(config), "--state", str(state), "--port", str(port)

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the simulator and wait for it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()

    def _wait_until_it_serves(self) -> dict[str, str]:
        assert self._process is not None
        connect = self._place / self.connect
        deadline = time.monotonic() + START_TIMEOUT_S
        while not connect.exists():
            code = self._process.poll()
            if code is not None:
                raise ToolError(f"ntx sim ended with {code}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise ToolError(f"ntx sim did not serve within {START_TIMEOUT_S:g} s: {self._last_words()}")
            time.sleep(_POLL_S)
        return read_environment(connect)

    def _last_words(self) -> str:
        text = (self._folder / "sim.log").read_text(errors="replace")
        return " / ".join(text.strip().splitlines()[-3:]) or "it said nothing"


def read_environment(path: Path) -> dict[str, str]:
    """Return what a file of `export NAME=value` lines sets, quotes removed, without running it."""
    result = {}
    for line in path.read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["export"]:
            words = words[1:]
        for word in words:
            name, equals, value = word.partition("=")
            if equals:
                result[name] = value
    return result
