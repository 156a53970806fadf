"""Recovery points that the cluster does not delete when it is told to: said loudly, and no error of a capture."""

from __future__ import annotations

import pytest

from ntxengine.repository import Repository
from ntxengine.sim import Simulator
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import sweep
from tests.capture.lab import Lab, fast_clock, open_lab
from tests.support.servers import require


@pytest.fixture
async def fast_lab(simulator: Simulator, repository: Repository) -> Lab:
    require("qemu-nbd", "qemu-img", "setpriv")
    return await open_lab(simulator, "v4", repository, attach="hot-add", clock=fast_clock())


async def test_a_secure_recovery_point_is_a_warning_and_goes_when_it_may(fast_lab: Lab) -> None:
    lab = fast_lab
    lab.sim.faults.secure_points = True
    first = await lab.capture()
    at_once = [text for text in lab.witness.warnings if "isSecure" in text]
    lab.write(0, 0, b"changed")

    second = await lab.capture()

    assert any(first.recovery_point_id in text and "will stay" in text for text in at_once)
    assert any(first.recovery_point_id in text and "approve its deletion" in text for text in second.report.warnings)
    assert lab.stored(second) == lab.guest()
    assert len(lab.recovery_points()) == 2

    lab.sim.faults.secure_points = False
    report = await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    assert not report.problems
    lab.assert_clean(points=2)


async def test_what_a_first_attempt_left_goes_with_the_recovery_point(fast_lab: Lab) -> None:
    lab = fast_lab
    lab.sim.faults.fail_tasks["create"] = 1
    lab.sim.faults.http.append(HttpFault("recovery-points", method="DELETE", status=409))
    await lab.capture()
    assert len(lab.recovery_points()) == 2

    lab.write(0, 0, b"changed")
    await lab.capture()

    lab.assert_clean(points=2)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_sweep_says_what_needs_an_approval_and_nothing_failed(dry_run: bool, fast_lab: Lab) -> None:
    lab = fast_lab
    first = await lab.capture()
    lab.sim.faults.secure_points = True
    await lab.capture()

    report = await sweep(lab.prism, lab.repository, attach=lab.attach_options, dry_run=dry_run)

    ((kept, reason),) = report.protected
    assert (kept.kind, kept.id, "isSecure" in reason) == ("recovery-point", first.recovery_point_id, True)
    assert (report.removed, report.problems) == ([], [])
    assert len(lab.points(lab.vm_id)) == 2
