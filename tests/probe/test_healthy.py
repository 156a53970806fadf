"""Nothing is broken, and every check is ok, whatever the cluster is like that capture can deal with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ntxengine.prism import Secret
from ntxengine.sim.faults import ListFault
from tests.probe.lab import Lab


def v4(lab: Lab) -> None:
    lab.central()


def v3(lab: Lab) -> None:
    lab.element()


def both(lab: Lab) -> None:
    lab.both()


def an_api_key(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "api_key", "key-of-a-service")
    lab.central(auth="api_key", username="", password=Secret("key-of-a-service"))


def the_role_backup_admin(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "roles", {"central": "Backup Admin", "element": "Cluster Admin"})


def v4_0_only(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "revisions", {"*": "v4.0"})
    lab.give(worker="")
    lab.serve_iscsi()


def iscsi(lab: Lab) -> None:
    lab.give(worker="")
    lab.serve_iscsi()


def iscsi_of_v3(lab: Lab) -> None:
    lab.element()
    lab.give_attach(source="iscsi")
    lab.serve_iscsi()


def prism_central_first(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "central_first", True)
    lab.give(vm="")


def caps_of_lists(lab: Lab) -> None:
    lab.sim.faults.lists += [ListFault("", count=-1, kind="page_cap", value=20)]


def answers_as_recorded(lab: Lab) -> None:
    lab.patch.setattr(lab.sim.config, "style", "recorded")


def a_vm_that_is_off(lab: Lab) -> None:
    lab.change_vm("db01", power="off")


CLUSTERS = (
    v4, v3, both, an_api_key, the_role_backup_admin, v4_0_only, prism_central_first, caps_of_lists,
    answers_as_recorded, a_vm_that_is_off, iscsi, iscsi_of_v3,
)  # fmt: skip


@pytest.mark.parametrize("change", CLUSTERS, ids=lambda change: change.__name__)
async def test_every_check_is_ok(change: Callable[[Lab], None], lab: Lab) -> None:
    change(lab)

    not_ok = await lab.not_ok()

    assert not_ok == {}, lab.told
    assert {line.key for line in lab.told if line.because} <= {
        "source.path",
        "source.hotadd",
        "source.nfs",
        "source.iscsi",
    }


async def test_it_changes_nothing(lab: Lab) -> None:
    lab.both()
    before = len(lab.sim.requests)

    found = await lab.probe()

    asked = list(lab.sim.requests)[before:]
    changing = {(each.method, each.status) for each in asked if each.method in ("PUT", "DELETE") or each.status == 202}
    assert changing == {("DELETE", 404)}
    assert lab.sim.world.state.points == {}
    assert found.count("failed") == 0


async def test_it_asks_few_questions(lab: Lab) -> None:
    before = len(lab.sim.requests)

    await lab.probe()

    assert len(lab.sim.requests) - before < 45


@pytest.mark.parametrize("family", [v4, v3])
async def test_it_says_what_the_cluster_encrypts(family: Callable[[Lab], None], lab: Lab) -> None:
    family(lab)
    told = []
    for of_cluster, of_container in ((False, False), (False, True), (True, True)):
        lab.patch.setattr(lab.sim.world.clusters[0].config, "encrypted", of_cluster)
        lab.patch.setattr(lab.sim.config.containers[1], "encrypted", of_container)
        found = await lab.probe()
        told += [line.result.text for line in found.lines if line.key == "cluster.encryption"]

    how = " (software)" if family is v4 else ""
    assert told == [
        "pe1 encrypts nothing of what it stores",
        f"pe1 encrypts 1 of 2 containers{how}: fast",
        f"pe1 encrypts all that it stores{how}",
    ]


async def test_it_says_what_it_saw(lab: Lab) -> None:
    found = await lab.probe()

    lines = {line.key: line.result for line in found.lines}
    assert lines["prism.kind"].facts["is_central"] is True
    assert lines["prism.certificate"].facts["issuer"].startswith("O=ntxengine simulator")  # type: ignore[union-attr]
    assert "fast: compressed, dedup" in lines["cluster.containers"].text
    assert lines["cluster.containers"].facts["tiers"] == ["PCIE_SSD"]
    assert lines["source.chosen"].facts["source"] == "hotadd"
    assert lines["vm.guest-tools"].facts["can_quiesce"] is True
