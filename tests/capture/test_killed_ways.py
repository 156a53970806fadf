"""`ntx capture` killed at each thing that it asks the cluster for, in each way to the bytes: a sweep finds all of it.

A capture is killed when the cluster gets a request, or when it has answered it: either in `make test`, both in `make
soak`.  What strangers have there stays.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from ntxengine.attach.iscsi import group_name
from ntxengine.concurrency.signals import send
from ntxengine.prism import Family
from ntxengine.prism.models import DiskPoint
from ntxengine.repository import Point, Repository
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import sweep
from ntxengine.units import utc_now
from tests.capture.lab import MIB, Lab, make_config, open_lab
from tests.capture.test_interrupted import ROOT, servers_gone
from tests.support.namespace import own_network
from tests.support.servers import require

Moment = Literal["asked", "answered"]


@dataclass(frozen=True)
class Way:
    """How a way is reached in the simulator, and the requests that make and remove something, in their order."""

    family: Family
    attach: str
    steps: tuple[tuple[str, str], ...]


FREEZE_V4, FREEZE_V3 = ("POST", r"/config/recovery-points$"), ("POST", "/vm_snapshots$")
RELEASE_V4, RELEASE_V3 = ("DELETE", r"/config/recovery-points/"), ("DELETE", "/vm_snapshots/")

WAYS = {
    "path": Way("v3", "mount", (FREEZE_V3, RELEASE_V3)),
    "hotadd": Way("v4", "hot-add", (FREEZE_V4, ("POST", "/disks$"), ("DELETE", "/disks/"), RELEASE_V4)),
    "hotadd-v3": Way("v3", "hot-add", (FREEZE_V3, ("POST", "/disks/attach$"), ("POST", "/disks/detach$"), RELEASE_V3)),
    "nfs": Way("v3", "nfs", (FREEZE_V3, RELEASE_V3)),
    "iscsi": Way(
        "v4",
        "iscsi",
        (
            FREEZE_V4,
            ("POST", r"/config/volume-groups$"),
            ("POST", "attach-iscsi-client$"),
            ("POST", "detach-iscsi-client"),
            ("DELETE", r"/config/volume-groups/"),
            RELEASE_V4,
        ),
    ),
    "iscsi-v3": Way(
        "v3",
        "iscsi",
        (
            FREEZE_V3,
            ("POST", "/volume_groups$"),
            ("POST", "/open$"),
            ("POST", "/close$"),
            ("DELETE", "/volume_groups/"),
            RELEASE_V3,
        ),
    ),
}

MOMENTS: tuple[Moment, Moment] = ("answered", "asked")
IS_SOAK = "NTX_SOAK_ROUNDS" in os.environ


def cases() -> Iterator[tuple[str, int, Moment]]:
    """Yield each step of each way at one moment; in a soak at both, and the second families of a way too."""
    for name, way in WAYS.items():
        if name.endswith("-v3") and not IS_SOAK:
            continue
        for number in range(len(way.steps)):
            for moment in MOMENTS if IS_SOAK else (MOMENTS[number % 2],):
                yield name, number, moment


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    found = WAYS[request.node.callspec.params["name"]]
    require("qemu-nbd", "qemu-img", "setpriv")
    with own_network() if found.attach == "nfs" else nullcontext():
        yield found


@pytest.fixture
def config(way: Way, tmp_path: Path) -> SimConfig:
    config = make_config(tmp_path / "disks")
    config.families = ["v3", "v4"] if way.family == "v4" else ["v3"]
    if way.attach == "nfs":
        config.nfs, config.nfs_allowed = True, ["127.0.0.0/255.0.0.0"]
    return config


@pytest.fixture
async def way_lab(way: Way, simulator: Simulator, repository: Repository) -> Lab:
    return await open_lab(simulator, way.family, repository, attach=way.attach)


class Killed:
    """A capture in a process of its own, which ends at a request."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._sim = lab.sim

    async def run(self, source: str, step: tuple[str, str], moment: Moment, *, may_end: bool) -> None:
        """Kill it when it asks for `step`, or as soon as it was answered; sweep at once, and let the cluster end it.

        After its last step (`may_end`) a capture may be over before it is killed.
        """
        method, path = step
        self._sim.requests.clear()
        if moment == "asked":
            self._sim.faults.http.append(HttpFault(path, method=method, delay_s=0.5))
        arguments = (
            "capture",
            "db01",
            "--to",
            str(self._lab.repository.path),
            "--source",
            source,
            "--progress",
            "none",
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ntxengine.cli.main", *arguments),
            env={**kept, **self._sim.env, "PYTHONPATH": str(ROOT / "src")},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        said = asyncio.create_task(process.communicate())
        while not said.done() and not self._has_come(method, path, moment):
            await asyncio.sleep(0.002)
        send(process, signal.SIGKILL)
        _, err = await said
        assert self._has_come(method, path, moment), f"the capture never asked for {method} {path}"
        assert process.returncode == -signal.SIGKILL or (may_end and process.returncode == 0), err.decode()
        assert await servers_gone(self._lab.repository.path)
        await sweep(self._lab.prism, self._lab.repository, gives_up=True)
        await self._settle(method, path)

    def _has_come(self, method: str, path: str, moment: Moment) -> bool:
        if moment == "asked":
            return self._sim.faults.http[-1].count == 0
        return any(each.method == method and re.search(path, each.path) for each in list(self._sim.requests))

    async def _settle(self, method: str, path: str) -> None:
        """Wait until the cluster has done what it was asked for."""
        async with asyncio.timeout(60):
            while not self._has_come(method, path, "answered") or self._sim.world.tasks._running:
                await asyncio.sleep(0.01)
        self._sim.faults.http.clear()
        self._sim.config.limits.task_s = 0


async def strangers(lab: Lab) -> tuple[list[str], list[str]]:
    """Let strangers have things that look like ours; return what they are."""
    vm = await lab.prism.vm(lab.vm_id)
    expires = utc_now() + timedelta(days=1)
    for name in ("ntx-00c0ffee-20260101T000000Z-abcdef", f"ntx-{lab.repository.id}x", "nightly"):
        point = await lab.prism.create_recovery_point(vm, name=name, consistency="crash", expires_at=expires)
        assert lab.sim.worker_id is not None
        await lab.prism.attach_disk(lab.sim.worker_id, point.disks[0])
        if lab.attacher.name == "iscsi":
            await make_group(lab, group_name(name, point.disks[0].id), point.disks[0])
    return lab.recovery_points(), lab.hot_added()


async def make_group(lab: Lab, name: str, disk: DiskPoint) -> None:
    vm = await lab.prism.vm(lab.vm_id)
    await lab.prism.make_volume_group(disk, name=name, cluster_id=vm.cluster_id, secret="a14charsecret1")


async def make_groups_like_ours(lab: Lab, point: Point) -> list[str]:
    """Let strangers have volume groups whose names begin as ours do; return the names of all."""
    (disk, *_) = (await lab.prism.recovery_point(point.recovery_point_id, await lab.prism.vm(lab.vm_id))).disks
    for name in (f"ntx-{lab.repository.id}-{point.id}-00000000", f"ntx-{lab.repository.id}-{point.id}0-abcdef01"):
        await make_group(lab, name, disk)
    return lab.volume_groups()


@pytest.mark.parametrize(("name", "number", "moment"), list(cases()))
async def test_a_sweep_after_a_kill_removes_all_that_is_ours_and_nothing_else(
    name: str, number: int, moment: Moment, way: Way, way_lab: Lab
) -> None:
    lab = way_lab
    points, clones = await strangers(lab)
    first = await lab.capture()
    groups = await make_groups_like_ours(lab, first) if way.attach == "iscsi" else []
    lab.write(0, 0, os.urandom(2 * MIB))
    lab.sim.config.limits.task_s = 0.1

    may_end = number == len(way.steps) - 1
    await Killed(lab).run(name.partition("-")[0], way.steps[number], moment, may_end=may_end)
    report = await sweep(lab.prism, lab.repository, gives_up=True)

    assert report.problems == []
    kept = [point.id for point in lab.points(lab.vm_id)]
    assert kept[:1] == [first.id]
    assert sorted(lab.recovery_points()) == sorted([*points, f"ntx-{lab.repository.id}-{kept[-1]}"])
    assert lab.hot_added() == clones
    assert lab.volume_groups() == groups
    assert lab.unfinished() == []
    again = await sweep(lab.prism, lab.repository, gives_up=True)
    assert again.removed == []
    point = await lab.capture()
    assert lab.stored(point) == lab.guest()
    assert point.kind == "incremental"
