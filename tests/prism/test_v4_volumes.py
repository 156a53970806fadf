"""Volume groups of v4 alone: versions of entities, protection, tasks that name what they made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ntxengine.errors import (
    PrismAnswerError,
    PrismBusy,
    PrismError,
    PrismProtected,
    TaskFailed,
)
from ntxengine.prism import VolumeGroup
from ntxengine.prism.findings import Findings
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import ETAG_RULES, HttpFault
from tests.prism.conftest import Connect, central
from tests.prism.groups import GROUP, INITIATOR, OTHER, SECRET, changed, frozen, left, make
from tests.prism.steps import ABSENT

LIST = "/config/volume-groups"


async def findings(sim: Simulator) -> Findings:
    async with central(sim) as prism:
        return prism.findings


async def test_a_group_of_v4_that_no_list_names_is_removed_by_its_task(sim: Simulator, connect: Connect) -> None:
    sim.faults.volumes = ["unlisted"]
    sim.faults.fail_tasks["create_group"] = 1
    async with connect("v4") as prism:
        with pytest.raises(TaskFailed):
            await make(prism)

    assert left(sim) == 0


async def test_a_secure_group_is_said_to_be_protected(sim: Simulator, connect: Connect) -> None:
    sim.faults.answers.append(changed(GROUP, "data.isSecure", True))
    async with connect("v4") as prism:
        group = await make(prism)
        sim.faults.volumes = ["deletion_refused"]

        with pytest.raises(PrismProtected, match=r"it is secure \(isSecure\): somebody has to approve its deletion"):
            await prism.remove_volume_group(group)

    assert "approve" in group.protection


@pytest.mark.parametrize("rule", sorted(ETAG_RULES))
async def test_groups_are_changed_under_each_rule_of_etags(sim: Simulator, connect: Connect, rule: str) -> None:
    sim.faults.etags = rule
    async with connect("v4") as prism:
        group = await make(prism)
        if rule == "withheld":
            with pytest.raises(PrismAnswerError, match="Prism wants an ETag and tells none"):
                await prism.admit_initiator(group, INITIATOR, OTHER)
            with pytest.raises(PrismAnswerError, match="Prism wants an ETag and tells none"):
                await prism.remove_volume_group(group)
        else:
            await prism.admit_initiator(group, INITIATOR, OTHER)
            await prism.remove_volume_group(group)

    assert left(sim) == (rule == "withheld")


async def test_a_stale_etag_is_read_again(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        group = await make(prism)
        sim.faults.http.append(HttpFault(path="attach-iscsi-client$", method="POST", status=412, count=2))
        await prism.admit_initiator(group, INITIATOR, OTHER)
        sim.faults.http = [HttpFault(path="volume-groups/", method="DELETE", status=412, count=-1)]

        with pytest.raises(PrismBusy, match="somebody else changes the volume group all the time"):
            await prism.remove_volume_group(group)


async def test_a_name_space_that_may_not_be_used_says_why(config: SimConfig, tmp_path: Path) -> None:
    async with Simulator(config, tmp_path / "none") as sim:
        sim.faults.http.append(HttpFault(path="volume-groups", status=403, count=-1))
        async with central(sim) as prism:
            assert "volume groups cannot be used" in prism.no_volume_groups
            disk, cluster = await frozen(prism)
            for asking in (
                prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET),
                prism.volume_groups("n"),
                prism.remove_volume_group(VolumeGroup(ABSENT, "n", cluster)),
            ):
                with pytest.raises(PrismError, match=r"volume groups cannot be used: .*HTTP 403"):
                    await asking


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (HttpFault(path=LIST, status=403, count=-1), r"volume groups cannot be used: .*HTTP 403"),
        (HttpFault(path=LIST, status=404, count=-1), r"volume groups cannot be used: .*the call is not there"),
        (HttpFault(path="volumes/unversioned", status=500, plain=True, count=-1), "could not be asked for: .*HTTP 500"),
        (HttpFault(path=LIST, status=503, count=-1), "could not be asked for: .*HTTP 503"),
        (HttpFault(path=LIST, delay_s=30, count=-1), "could not be asked for within 0.2 s: try again later"),
    ],
)
async def test_no_volume_groups_end_nothing_and_are_said(
    sim: Simulator, fault: HttpFault, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault.delay_s:
        monkeypatch.setattr("ntxengine.prism.probe._VOLUMES_TIMEOUT_S", 0.2)
    sim.faults.http.append(fault)

    seen = await findings(sim)

    assert (seen.family, seen.can_hot_add) == ("v4", True)
    assert re.search(reason, seen.no_volume_groups)


async def test_volume_groups_are_spoken_at_the_revision_that_answers(sim: Simulator) -> None:
    sim.faults.http += [
        HttpFault(path="volumes/unversioned", status=404, count=-1),
        HttpFault(path=r"/volumes/v4\.0/", status=404, count=-1),
    ]
    absent = await findings(sim)
    sim.faults.http.pop(0)

    there = await findings(sim)

    assert absent.no_volume_groups != ""
    assert there.revisions is not None
    assert (there.revisions.volumes, there.no_volume_groups) == ("v4.1", "")
