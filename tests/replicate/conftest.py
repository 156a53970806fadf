from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.repository import Repository
from ntxengine.sim import Simulator
from tests.capture.conftest import config, lab, no_lab_stays_open, repository, simulator, v4_lab
from tests.capture.lab import MIB, Lab
from tests.replicate.replicating import Replicating
from tests.support.servers import qemu_exports, require, require_root

__all__ = ["config", "lab", "no_lab_stays_open", "repository", "simulator", "v4_lab"]

FOLLOWING = ["raw", "beside", "qcow2", "vmware", "server"]
"""Fixtures: one for each way in which a target that follows is written."""
MOST_DISKS = 3


@pytest.fixture
def state(repository: Repository) -> Repository:
    """A folder for the state of replicas: a repository without points."""
    return repository


@pytest.fixture
def raw(v4_lab: Lab, tmp_path: Path) -> Replicating:
    """A replica in raw files, written in place: this file system shares no blocks."""
    (tmp_path / "kvm").mkdir()
    return Replicating(v4_lab, f"kvm:{tmp_path / 'kvm'}", "raw")


@pytest.fixture
def vmware(v4_lab: Lab, tmp_path: Path) -> Replicating:
    """A replica in flat VMDKs, written in place."""
    (tmp_path / "datastore").mkdir()
    return Replicating(v4_lab, f"vmware:{tmp_path / 'datastore'}")


@pytest.fixture
def qcow2(v4_lab: Lab, tmp_path: Path) -> Replicating:
    """A replica in QCOW2 images, an overlay for each generation."""
    (tmp_path / "kvm").mkdir()
    return Replicating(v4_lab, f"kvm:{tmp_path / 'kvm'}", "qcow2")


@pytest.fixture
def server(v4_lab: Lab, tmp_path: Path) -> Iterator[Replicating]:
    """A replica in exports of one NBD server that hold something else."""
    exports = {f"scsi.{number}": tmp_path / f"export-{number}" for number in range(MOST_DISKS)}
    for file in exports.values():
        file.write_bytes(os.urandom(32 * MIB))
    with qemu_exports(exports) as uri:
        yield Replicating(v4_lab, uri.replace("///", "///{disk}"), overwrite=True)


@pytest.fixture
def reflinks(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that shares blocks."""
    require("mkfs.xfs")
    require_root("to mount a file system")
    image, folder = tmp_path / "xfs.img", tmp_path / "xfs"
    folder.mkdir()
    subprocess.run(["truncate", "-s", "320M", image], check=True)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def beside(v4_lab: Lab, reflinks: Path) -> Replicating:
    """A replica in raw files, written beside what is there."""
    return Replicating(v4_lab, f"kvm:{reflinks}", "raw")


@pytest.fixture
def simulated(simulator: Simulator) -> Simulator:
    return simulator
