"""SIGKILL at random moments of an export: a sweep then leaves nothing on the cluster but what was promised.

Ten kills in `make test`; `make soak` sets NTX_EXPORT_KILLS and NTX_SOAK_SEED for a hundred.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from ntxengine.sim import Simulator
from tests.cli.ntx import COMMAND, environment, ntx
from tests.export.command import Command
from tests.export.receiver import Client, Notification, Receiver
from tests.support.pki import Pki
from tests.support.processes import processes

KILLS = int(os.environ.get("NTX_EXPORT_KILLS", "10"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))


class Killed:
    """One export after another of one VM, to a control plane that takes each at once.

    `promised` are the recovery points of which "done" was answered with 200, in their order; of those in `unclear` the
    control plane did not hear what was answered.
    """

    def __init__(self, command: Command, client: Client) -> None:
        self.command = command
        self.promised: list[str] = []
        self.unclear: set[str] = set()
        self._client = client
        command.receiver.then = self._take

    def _take(self, notification: Notification) -> None:
        point = notification["recovery_point"]["id"]
        self.unclear.add(point)
        with suppress(httpx.HTTPError):  # it was killed meanwhile
            for disk in notification["disks"]:
                self._client.regions(disk)
            answer = self._client.done(notification)
            self.unclear.discard(point)
            if answer.status_code == 200:
                self.promised.append(point)

    @property
    def arguments(self) -> list[str]:
        return [*self.command.arguments, "-q", *(["--since", self.promised[-1]] if self.promised else [])]

    def run(self, *, kill_after_s: float) -> None:
        """Run an export, and kill it if it still runs by then."""
        # What it has told is dealt with when nobody listens any more: a kill may come before anybody has read it.
        with self.command.receiver.listening():
            process = subprocess.Popen([*COMMAND, *self.arguments], env=environment(self.command.env))
            with suppress(subprocess.TimeoutExpired):
                process.wait(kill_after_s)
            process.kill()
            process.wait()
            while self._served():  # the kernel ends them
                time.sleep(0.01)

    def _served(self) -> list[str]:
        pki = str(self.command.folder)
        return [each.command for each in processes() if "qemu-nbd" in each.words[0] and pki in each.command]


@pytest.fixture
def killed(simulator: Simulator, pki: Pki, tmp_path: Path) -> Killed:
    return Killed(Command(simulator, pki, Receiver(pki), tmp_path), Client(pki))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_kills_leave_nothing_but_what_was_promised(killed: Killed) -> None:
    command, chance = killed.command, random.Random(SEED)
    began = time.monotonic()
    killed.run(kill_after_s=600)
    whole_s = time.monotonic() - began
    assert len(killed.promised) == 1

    for _ in range(KILLS):
        killed.run(kill_after_s=chance.uniform(0.1, 1.1) * whole_s)
        command.sweep()

        left = set(command.left())
        assert killed.promised[-1] in left or left & killed.unclear
        assert left <= {*killed.promised, *killed.unclear}

    with command.receiver.listening():
        last = ntx(*killed.arguments, "--json", env=command.env)
    assert last.code == 0, last.err
    assert command.left() == [last.json["recovery_point_id"]] == killed.promised[-1:]
    assert command.receiver.errors == []
