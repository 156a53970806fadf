from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import Simulator, run_in_thread
from tests.agent.lab import two_vms
from tests.support.servers import require


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    """A cluster with two VMs."""
    require("qemu-nbd", "qemu-img", "setpriv")
    with run_in_thread(two_vms(tmp_path / "disks"), tmp_path / "cluster") as sim:
        yield sim
