"""What a capture makes of the version of AOS, and what it says of the way that it went."""

from __future__ import annotations

import pytest

from ntxengine.capture import CaptureOptions, plan_capture
from ntxengine.errors import NtxError
from ntxengine.sim.faults import AnswerFault, HttpFault
from tests.capture.lab import Lab

CLUSTER = {"v4": (r"/config/clusters/[^/]+$", "data.config.buildInfo."), "v3": (r"v2\.0/cluster$", "")}
NAMES = {"v4": ("fullVersion", "version"), "v3": ("full_version", "version")}


def runs(lab: Lab, full: str | None, short: str | None) -> None:
    """Let the cluster say that it runs this version."""
    path, prefix = CLUSTER[lab.prism.family]
    lab.sim.faults.answers.clear()
    for name, value in zip(NAMES[lab.prism.family], (full, short), strict=True):
        lab.sim.faults.answers.append(
            AnswerFault(path=path, method="GET", count=-1, field=f"{prefix}{name}", value=value)
        )


@pytest.mark.parametrize(
    ("full", "short", "version"),
    [
        ("el7.3-release-euphrates-5.20.1.1-stable-abc", "5.20.1.1", "5.20.1.1"),
        ("el7.3-release-fraser-6.1.2-stable-abc", "6.1.2", "6.1.2"),
        ("fraser-6.8-stable", "fraser-6.8-stable", "6.8"),
        ("el8.5-release-ganges-7.0.1-stable-abc", "7.0", "7.0.1"),
        ("master", None, ""),
        (None, None, ""),
    ],
)
async def test_the_report_says_version_and_way(lab: Lab, full: str | None, short: str | None, version: str) -> None:
    runs(lab, full, short)

    plan = await plan_capture(lab.prism, lab.repository, lab.vm_id, CaptureOptions())

    assert (str(plan.cluster.version) if plan.cluster.version.numbers else "") == version
    assert plan.way.startswith(f"{lab.prism.family} of a Prism")
    assert ("came with 7.0" in plan.notice) == (lab.prism.family == "v4" and version[:1] in ("5", "6"))


async def test_the_point_keeps_where_the_vm_ran_and_which_way_was_gone(lab: Lab) -> None:
    runs(lab, "el7.3-release-fraser-6.5.4.5-stable-abc", "6.5.4.5")

    point = await lab.capture()

    cluster = point.report.cluster
    assert cluster is not None
    assert (cluster.cluster_id, cluster.aos_version) == (lab.sim.world.cluster_id, "6.5.4.5")
    assert cluster.way.startswith(f"{lab.prism.family} of a Prism")
    assert any("came with 7.0" in text for text in lab.witness.warnings) == (lab.prism.family == "v4")


async def test_a_cluster_that_is_too_old_is_refused_with_the_table(lab: Lab) -> None:
    runs(lab, "el6.8-release-euphrates-5.15.7-stable-abc", "5.15.7")

    with pytest.raises(NtxError, match=r"AOS 5\.15\.7 is older than 5\.20.*6\.5 to 6\.10: v3 yes.*update the cluster"):
        await lab.capture()

    lab.assert_clean(points=0)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_cluster_that_may_not_be_asked_about_is_captured(lab: Lab, status: int) -> None:
    lab.sim.faults.http.append(HttpFault(path=CLUSTER[lab.prism.family][0], status=status, count=-1))

    point = await lab.capture()

    assert lab.stored(point) == lab.guest()
    assert lab.witness.warnings == []
