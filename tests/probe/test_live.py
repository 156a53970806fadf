"""The live probe: a recovery point is made and deleted, whatever happens in between."""

from __future__ import annotations

import asyncio

import pytest

from ntxengine.attach import ATTACHERS, ContainerMount, Verdict
from ntxengine.prism.models import Vm
from ntxengine.probe import Line, probe
from ntxengine.sim.faults import AnswerFault, HttpFault
from tests.probe.lab import Lab

FAMILIES = ("v4", "v3")


@pytest.fixture
def live(lab: Lab, family: str) -> Lab:
    lab.give(live=True)
    if family == "v3":
        lab.element()
    return lab


def results(lab: Lab) -> dict[str, str]:
    return {line.name: line.result.status for line in lab.told if line.subject == "live"}


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_recovery_point_is_made_asked_about_and_deleted(live: Lab) -> None:
    found = await live.probe()

    lines = {line.key: line.result for line in found.lines}
    read = {"read": "ok"} if live.options.central is None else {}  # hot-add would make a disk
    assert results(live) == {"freeze": "ok", "regions": "ok", **read, "delete": "ok"}
    assert str(lines["live.freeze"].facts["name"]).startswith("ntx-probe-")
    assert lines["live.regions"].facts["file_size"] == 2 * 1024**2
    assert live.sim.world.state.points == {}


@pytest.mark.parametrize("family", ["v3"])
@pytest.mark.parametrize("makes_clones", [False, True])
async def test_a_disk_is_opened_where_that_makes_nothing_by_who_looked_before(makes_clones: bool, live: Lab) -> None:
    looks: list[str] = []

    class Counting(ContainerMount):
        async def can_serve_vm(self, vm: Vm) -> Verdict:
            looks.append(vm.name)
            return await super().can_serve_vm(vm)

    live.patch.setattr(Counting, "makes_clones", makes_clones)
    ways = (Counting, *ATTACHERS[1:])
    for user in ("registry", "sources"):
        live.patch.setattr(f"ntxengine.probe.{user}.ATTACHERS", ways)

    await live.probe()

    assert looks == ["db01"]
    assert ("read" in results(live)) == (not makes_clones)


@pytest.mark.parametrize("family", FAMILIES)
async def test_it_is_deleted_where_regions_are_refused(live: Lab) -> None:
    path = r"\$actions/compute-changed-regions|data/changed_regions"
    live.sim.faults.http.append(HttpFault(path, status=500, count=-1, after=1 if live.options.central is None else 0))

    await live.probe()

    assert results(live) | {"read": "ok"} == {"freeze": "ok", "regions": "failed", "read": "ok", "delete": "ok"}
    assert live.sim.world.state.points == {}


@pytest.mark.parametrize("family", ["v3"])
async def test_a_disk_of_another_size_than_the_vm_has_is_named(live: Lab) -> None:
    live.sim.faults.answers.append(AnswerFault("data/changed_regions", count=-1, field="file_size", value=4 * 1024**2))

    found = await live.probe()

    line = next(line for line in found.lines if line.key == "live.regions")
    assert line.result.status == "warning"
    assert "says 4194304 bytes, the VM 2097152" in line.result.text
    assert results(live)["delete"] == "ok"


@pytest.mark.parametrize("family", ["v4"])
async def test_a_recovery_point_that_cannot_be_deleted_is_named(live: Lab) -> None:
    live.sim.faults.http.append(HttpFault("recovery-points/[^/]+$", method="DELETE", status=409, count=-1, after=1))

    found = await live.probe()

    failed = next(line.result for line in found.lines if line.key == "live.delete")
    assert failed.status == "failed"
    assert "ntx-probe-" in failed.text
    assert "expires" in failed.remedy


@pytest.mark.parametrize("family", ["v4"])
async def test_nothing_is_frozen_of_a_vm_that_cannot_be_captured(live: Lab) -> None:
    live.change_vm("db01", odd=["external"])
    before = len(live.sim.requests)

    await live.probe()

    made = [each for each in list(live.sim.requests)[before:] if each.method == "POST" and each.status == 202]
    assert results(live) == dict.fromkeys(("freeze", "regions", "read"), "skipped")
    assert made == []


@pytest.mark.parametrize(("family", "path"), [("v4", "recovery-points/"), ("v3", "vm_snapshots/")])
async def test_nothing_is_frozen_before_it_is_known_whether_it_can_be_deleted(path: str, live: Lab) -> None:
    live.sim.faults.http.append(HttpFault(path, method="DELETE", status=403, delay_s=1.5, count=-1))

    await live.probe()

    assert results(live)["freeze"] == "skipped"
    assert live.sim.world.state.points == {}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("moment", ["live.freeze", "live.regions", "cluster.leftovers"])
async def test_a_cancelled_probe_leaves_nothing(live: Lab, moment: str) -> None:
    reached = asyncio.Event()

    def tell(line: Line) -> None:
        if line.key == moment:
            reached.set()

    running = asyncio.create_task(probe(live.options, tell, machine=live.machine))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert live.sim.world.state.points == {}


@pytest.mark.parametrize("family", ["v4"])
async def test_it_expires_within_an_hour(live: Lab) -> None:
    live.sim.faults.http.append(HttpFault("recovery-points/[^/]+$", method="DELETE", status=409, count=-1, after=1))

    await live.probe()

    (left,) = live.sim.world.state.points.values()
    assert left.expires is not None
    assert 0 < left.expires - left.created <= 3605


@pytest.mark.parametrize("family", ["v4"])
async def test_one_that_needs_an_approval_is_asked_for_once_and_named(
    live: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntxengine.probe.live.APPROVAL_TIMEOUT_S", 0.5)
    live.sim.faults.secure_points = True
    before = len(live.sim.requests)

    found = await live.probe()

    (left,) = live.sim.world.state.points.values()
    asked = [each for each in list(live.sim.requests)[before:] if each.method == "DELETE" and left.id in each.path]
    line = next(line.result for line in found.lines if line.key == "live.delete")
    assert line.status == "warning"
    assert left.name in line.text
    assert len(asked) == 1
    assert found.context.live_point is None
