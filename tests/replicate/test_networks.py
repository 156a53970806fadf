"""Networks of the cluster are given a place by their names, whichever API tells of the VM."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.machines import DefinitionOptions, NetworkMap
from ntxengine.sim.config import SimConfig
from ntxengine.sim.faults import HttpFault
from ntxengine.sim.hardware import NicConfig, network_id
from tests.capture.lab import Lab, make_config
from tests.replicate.replicating import Replicating


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    found = make_config(tmp_path / "disks")
    found.vms[0].hardware.nics = [NicConfig("VLAN10"), NicConfig("VLAN20")]
    return found


def following(lab: Lab, folder: Path) -> Replicating:
    options = DefinitionOptions(networks=NetworkMap.parse(["VLAN10=network:lab"]))
    return Replicating(lab, f"kvm:{folder}", "raw", definition=options)


async def test_card_is_put_on_the_network_that_the_name_is_given(lab: Lab, tmp_path: Path) -> None:
    replica = following(lab, tmp_path)

    cycle = await replica.run()

    assert '<source network="lab" />' in (replica.folder() / cycle.replica.definition).read_text()
    (lost,) = (text for text in cycle.replica.not_carried_over if "which was given no place" in text)
    assert "the network 'VLAN20'" in lost


async def test_names_that_may_not_be_read_end_nothing_and_ids_are_told(v4_lab: Lab, tmp_path: Path) -> None:
    v4_lab.sim.faults.http.append(HttpFault("networking", status=403, count=-1))
    replica = following(v4_lab, tmp_path)

    cycle = await replica.run()

    lost = [text for text in cycle.replica.not_carried_over if "which was given no place" in text]
    assert any(network_id("VLAN10") in text for text in lost)
    assert len(lost) == 2
