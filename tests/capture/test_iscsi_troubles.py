"""What goes wrong with volume groups: one clear line before or after, and nothing left on the cluster, or said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.errors import AttachError, NtxError
from ntxengine.prism import Family
from ntxengine.repository import Repository
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import sweep
from tests.capture.lab import Lab, fast_clock, make_config, open_lab
from tests.capture.test_in_vain import posts
from tests.support.servers import require


@pytest.fixture(params=["v4", "v3"])
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture
def config(family: Family, tmp_path: Path) -> SimConfig:
    config = make_config(tmp_path / "disks")
    config.families = ["v3", "v4"] if family == "v4" else ["v3"]
    return config


@pytest.fixture
async def lab(simulator: Simulator, repository: Repository, family: Family) -> Lab:
    require("qemu-nbd", "qemu-img", "setpriv", "tgtd")
    return await open_lab(simulator, family, repository, attach="iscsi", clock=fast_clock())


async def refused(lab: Lab) -> str:
    """Return the one line that a capture fails with; nothing is left then, here or there."""
    with pytest.raises(NtxError) as failure:
        await lab.capture()
    lab.assert_clean(points=0)
    assert len(str(failure.value).splitlines()) == 1
    return str(failure.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no_data_services", "has no data services address, which volume groups are reached at: set one in Prism"),
        (
            "unreachable_data_services",
            "no connection to 127.0.0.250:3260: Connection refused; is its port open, and is that the data services",
        ),
    ],
)
async def test_data_services_that_are_not_there_are_known_before_the_freeze(lab: Lab, fault: str, said: str) -> None:
    lab.sim.faults.volumes.append(fault)

    with pytest.raises(AttachError) as planned:
        await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions(), attacher=lab.attacher)

    for line in (str(planned.value), await refused(lab)):
        assert said in line
    assert posts(lab) == []


async def test_a_secret_that_is_refused_is_said(lab: Lab) -> None:
    lab.sim.faults.volumes.append("wrong_secret")

    assert "the target refuses the CHAP secret" in await refused(lab)


async def test_a_target_that_nobody_names_is_given_up(lab: Lab) -> None:
    lab.sim.faults.volumes.append("no_target_name")

    assert "does not tell the name of its iSCSI target" in await refused(lab)


async def test_a_group_that_is_served_late_is_waited_for(lab: Lab) -> None:
    lab.sim.faults.volumes.append("late")

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


async def test_a_group_whose_deletion_is_refused_costs_a_warning_and_is_swept(lab: Lab) -> None:
    lab.sim.faults.volumes.append("deletion_refused")

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert len(lab.volume_groups()) == 2
    for name in lab.volume_groups():
        (warning,) = [text for text in lab.witness.warnings if name in text]
        assert "was left behind" in warning
        assert "ntx sweep" in warning
    report = await sweep(lab.prism, lab.repository)
    assert len(report.problems) == 2
    assert all("VOL-10403" in text or "may not be deleted" in text for text in report.problems)

    lab.sim.faults.volumes.clear()
    report = await sweep(lab.prism, lab.repository)

    assert [each.kind for each in report.removed] == ["volume-group", "volume-group"]
    assert report.problems == []
    lab.assert_clean(points=1)


async def test_a_group_whose_deletion_is_refused_is_named_when_a_capture_fails(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.sim.faults.volumes += ["deletion_refused", "wrong_secret"]

    with pytest.raises(NtxError):
        await lab.capture()

    left = lab.volume_groups()
    assert left
    assert all(any(name in text and "ntx sweep" in text for text in caplog.messages) for name in left)
    lab.sim.faults.volumes.clear()
    await sweep(lab.prism, lab.repository)
    lab.assert_clean(points=0)


async def test_who_may_not_see_volume_groups_can_sweep_what_was_not_read_by_them(
    simulator: Simulator, repository: Repository
) -> None:
    lab = await open_lab(simulator, "v3", repository, attach="mount")
    await lab.capture()
    lab.sim.faults.http.append(HttpFault("volume_groups|volume-groups", status=403, count=-1))

    report = await sweep(lab.prism, lab.repository)

    assert (report.problems, report.removed) == ([], [])
