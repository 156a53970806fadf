"""A cluster by its address, and its VMs by their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import ntxengine
from ntxengine.sim import Simulator, run_in_thread
from tests.capture.lab import make_config


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    config = make_config(tmp_path / "disks")
    config.vms.append(dataclasses.replace(config.vms[0], name="twin", disks=[], cdroms=[], nvram=None, volume_groups=0))
    config.vms.append(dataclasses.replace(config.vms[-1]))
    with run_in_thread(config, tmp_path / "cluster") as sim:
        yield sim


async def test_a_vm_is_found_by_its_name_or_uuid(simulator: Simulator) -> None:
    account = {"username": simulator.username, "password": simulator.password, "ca_file": str(simulator.ca_file)}

    async with ntxengine.connect(simulator.central_url, **account) as cluster:
        by_name = await ntxengine.find_vm(cluster, "db01")
        by_uuid = await ntxengine.find_vm(cluster, simulator.vm_id("db01").upper())
        with pytest.raises(ntxengine.NotFoundError, match="no VM is named 'db02'"):
            await ntxengine.find_vm(cluster, "db02")
        with pytest.raises(ntxengine.OptionsError, match="2 VMs are named 'twin': name one by its UUID"):
            await ntxengine.find_vm(cluster, "twin")

    assert by_name.id == by_uuid.id == simulator.vm_id("db01")


async def test_a_capture_without_a_way_to_the_bytes_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.volumes = ["no_data_services"]
    account = {"username": simulator.username, "password": simulator.element_password}
    repository = await ntxengine.Repository.create(tmp_path / "repository")

    async with ntxengine.connect(simulator.element_url, **account, ca_file=str(simulator.ca_file)) as cluster:
        with pytest.raises(ntxengine.AttachError, match="no way to the disks"):
            await ntxengine.capture_vm(cluster, repository, "db01")
        point = await ntxengine.capture_vm(cluster, repository, "db01", containers=simulator.world.layout.containers)

    assert (point.vm_name, point.kind) == ("db01", "full")
