"""NFS and iSCSI as real servers have them, in a network namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ntxengine.probe import machine
from ntxengine.sim import Simulator, run_in_thread
from tests.probe.lab import Lab, config_in
from tests.support.namespace import SILENT, own_network


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    folder = tmp_path_factory.mktemp("served")
    config = config_in(folder / "disks")
    config.nfs = True
    config.nfs_allowed = ["127.0.0.0/255.0.0.0"]
    config.containers[1].nfs_allowed = ["10.1.0.0/255.255.0.0"]
    with own_network(), run_in_thread(config, folder / "state") as sim:
        yield sim


def results(lab: Lab, *names: str) -> dict[str, str]:
    return {line.key: line.result.status for line in lab.told if line.key in names}


async def test_a_disk_is_opened_over_nfs(lab: Lab) -> None:
    lab.element()
    lab.give(vm=next(vm.id for vm in lab.sim.world.vms.values() if vm.name == "twin"), worker="", live=True)
    lab.give_attach(source="nfs", containers=None)

    not_ok = await lab.not_ok()

    assert not_ok == {}
    assert results(lab, "source.nfs", "live.read") == {"source.nfs": "ok", "live.read": "ok"}


async def test_an_allow_list_that_lacks_us_is_named_and_no_disk_is_tried(lab: Lab) -> None:
    lab.element()
    lab.give(worker="", live=True)
    lab.give_attach(source="nfs", containers=None)

    not_ok = await lab.not_ok()

    assert not_ok == {"source.nfs": "failed"}
    assert results(lab, "live.read") == {"live.read": "skipped"}
    assert lab.sim.world.state.points == {}


@pytest.mark.parametrize("family", ["v4", "v3"])
async def test_data_services_answer(family: str, lab: Lab) -> None:
    if family == "v3":
        lab.element()
    lab.give_attach(source="iscsi")

    not_ok = await lab.not_ok()

    assert not_ok == {}
    assert results(lab, "source.iscsi") == {"source.iscsi": "ok"}


@pytest.mark.parametrize(("source", "key"), [("nfs", "nfs_server"), ("iscsi", "data_services")])
async def test_a_server_that_nothing_comes_back_from_is_named(
    source: str, key: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CONNECT_TIMEOUT_S", 0.3)
    lab.element()
    lab.give_attach(source=source, **{key: SILENT})

    not_ok = await lab.not_ok()

    assert not_ok == {f"source.{source}": "failed"}
    line = next(line for line in lab.told if line.key == f"source.{source}")
    assert "no answer within 0.3 s" in line.result.text
    assert "open TCP" in line.result.remedy
