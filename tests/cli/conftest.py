from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.sim import Simulator, run_in_thread
from ntxengine.sim.config import DiskConfig, VmConfig, demo_config
from tests.support.rates import without_rates

STRANGE_NAME = "../../etc/passwd\n\x1b[31mred\u202e"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A cluster with the VM `demo`, one with a strange name, and two that are called `twin`."""
    folder = tmp_path_factory.mktemp("cluster")
    config = without_rates(demo_config(folder / "disks"))
    for number, name in enumerate((STRANGE_NAME, "twin", "twin")):
        disk = DiskConfig(folder / f"other{number}.raw", size=1024**2)
        config.vms.append(VmConfig(name, disks=[disk], id=f"00000000-0000-4000-8000-00000000000{number}"))
    with run_in_thread(config, folder / "state") as sim:
        yield sim


@pytest.fixture
def path_without_qemu_nbd(tmp_path: Path) -> str:
    """A PATH on which everything that we start is found, but qemu-nbd."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("qemu-img", "setpriv", "sh"):
        found = shutil.which(name)
        assert found is not None, f"{name} is not installed"
        (folder / name).symlink_to(found)
    return str(folder)
