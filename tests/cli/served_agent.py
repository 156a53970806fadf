"""An agent that serves two VMs of a simulated cluster, as a process, and commands that speak with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntxengine.sim import Simulator, run_in_thread
from tests.agent.lab import two_vms
from tests.cli.ntx import Ran, ntx
from tests.cli.process import Process
from tests.support.servers import require

FILE = """
nutanix: {{prism_central: {url}, username: {username}, password: "{password}", ca_file: {ca_file}}}
backup: {{repository: {folder}/repository, worker: {worker}, device_dir: {devices}}}
agent: {{state: {folder}/state, socket: {folder}/agent.sock}}
jobs:
  - {{name: hourly, vms: [db01, web01], every: 300d, retries: {{attempts: 1}}}}
  - {{name: nightly, vms: [db01], every: 300d}}
"""


class Lab:
    """An agent that serves, its file, and commands that speak with it."""

    def __init__(self, sim: Simulator, folder: Path) -> None:
        self.sim = sim
        self.folder = folder
        self.file = folder / "agent.yaml"
        self.socket = folder / "agent.sock"
        self.file.write_text(
            FILE.format(
                url=sim.central_url,
                username=sim.username,
                password=sim.password,
                ca_file=sim.ca_file,
                folder=folder,
                worker=sim.worker_id,
                devices=sim.world.layout.devices,
            )
        )
        self.agent = Process(folder, "agent", "--config", str(self.file))
        self.agent.until(lambda: self.socket.exists() and self("status").code == 0 and self.json("status")["vm_count"])

    def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Ran:
        return ntx(*arguments, env={"NTX_SOCKET": str(self.socket), **(env or {})})

    def json(self, *arguments: str, code: int = 0) -> dict[str, object]:
        ran = self(*arguments, "--json")
        assert ran.code == code, ran
        found: dict[str, object] = ran.json
        return found


@contextmanager
def served(folder: Path) -> Iterator[Lab]:
    require("qemu-nbd", "qemu-img", "setpriv")
    with run_in_thread(two_vms(folder / "disks"), folder / "cluster") as sim:
        found = Lab(sim, folder)
        try:
            yield found
        finally:
            found.agent.kill()
