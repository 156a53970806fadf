"""`ntx export` of the VM db01 of a simulated cluster to a receiver, at ports of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ntxengine.sim import Simulator
from tests.cli.ntx import COMMAND, environment, ntx
from tests.export.receiver import Receiver
from tests.support.pki import Pki
from tests.support.ssh import free_port


class Command:
    """The arguments, and what is on the cluster afterwards."""

    def __init__(self, sim: Simulator, pki: Pki, receiver: Receiver, folder: Path) -> None:
        self.sim = sim
        self.env = sim.env
        self.folder = folder
        self.state = folder / "state"
        self.receiver = receiver
        first = free_port()
        files = {"--tls-ca": "ca-cert", "--tls-cert": "server-cert", "--tls-key": "server-key"}
        self.way = ["--ports", f"{first}-{first + 40}", "--advertise", "127.0.0.1", "--bind", "127.0.0.1"]
        self.way += [text for option, name in files.items() for text in (option, str(pki.folder / f"{name}.pem"))]
        self._ca = str(pki.ca_file)

    @property
    def arguments(self) -> list[str]:
        to = ["--state", str(self.state), "--notify", self.receiver.url, "--notify-ca", self._ca]
        return ["export", "db01", *to, *self.way]

    def start(self) -> subprocess.Popen[str]:
        """Start it, and return when the control plane is told."""
        process = subprocess.Popen(
            [*COMMAND, *self.arguments, "--json"],
            env=environment(self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.receiver.told.wait(60), process.kill() or process.communicate()
        return process

    def sweep(self) -> None:
        ran = ntx("sweep", "--repository", self.state, env=self.env)
        assert ran.code == 0, ran.err

    def left(self) -> list[str]:
        """Return the ids of the recovery points, clones and groups that are on the cluster."""
        state = self.sim.world.state
        return sorted([*state.points, *state.clones, *state.made_groups])
