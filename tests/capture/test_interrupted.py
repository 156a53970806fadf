"""`ntx capture` interrupted and killed, as a process, at every stage: what is left, and what works afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from ntxengine.concurrency.signals import send
from ntxengine.sim.faults import HttpFault
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab, servers

ROOT = Path(__file__).parent.parent.parent


class Ntx:
    """`ntx capture` as a process, which can be stopped when it enters a stage."""

    def __init__(self, lab: Lab, *what: str) -> None:
        """`what` is captured, and how, if it is not the one VM of the lab."""
        self._lab = lab
        self._what = what or ("db01",)

    async def run(self, *, stop_at: str, after_s: float, by: signal.Signals) -> int:
        arguments = ["capture", *self._what, "--to", str(self._lab.repository.path), "--progress", "json"]
        # Slow enough that a stage lasts until the signal is there.
        arguments += ["--bandwidth", "2M"] if stop_at == "copy" else []
        arguments += ["--audit", "100%"] if stop_at == "audit" else []
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ntxengine.cli.main", *arguments),
            env={**kept, **self._lab.sim.env, "PYTHONPATH": str(ROOT / "src")},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        seen: list[str] = []
        async for line in process.stderr:
            event = json.loads(line) if line.startswith(b"{") else {}
            if event.get("message_type") != "stage":
                continue
            stage = event["name"]
            seen.append(stage)
            if stage == stop_at and seen.count(stage) == 1:
                await asyncio.sleep(after_s)
                send(process, by)
        assert stop_at in seen
        return await process.wait()


async def servers_gone(folder: Path) -> bool:
    """Wait for the qemu-nbd of a repository to be gone: a killed parent takes them with it, but not at once."""
    for _ in range(3000):
        if not servers(folder):
            return True
        await asyncio.sleep(0.02)
    return False


async def start(lab: Lab) -> None:
    await lab.capture()
    lab.write(0, 0, os.urandom(2 * MIB))
    lab.write(1, 0, os.urandom(MIB))


MOMENTS = [
    ("plan", 0.0),
    ("freeze", 0.0),
    ("freeze", 0.2),
    ("changes", 0.0),
    ("attach", 0.0),
    ("attach", 0.2),
    ("audit", 0.0),
    ("copy", 0.0),
    ("copy", 0.5),
    ("verify", 0.0),
    ("commit", 0.0),
    ("commit", 0.03),
    ("release", 0.0),
]


@pytest.mark.parametrize(("stage", "after_s"), MOMENTS)
async def test_a_killed_capture_shows_no_point_and_the_next_one_works(stage: str, after_s: float, v4_lab: Lab) -> None:
    lab = v4_lab
    await start(lab)

    if stage not in ("commit", "release"):
        # What it asks for at its end takes so long that the signal comes before.
        release = HttpFault("/recovery-points/", method="DELETE", status=503, delay_s=5, count=-1)
        lab.sim.faults.http.append(release)

    code = await Ntx(lab).run(stop_at=stage, after_s=after_s, by=signal.SIGKILL)

    lab.sim.faults.http.clear()
    assert code == -signal.SIGKILL or stage in ("commit", "release")
    assert await servers_gone(lab.repository.path)
    for point in lab.points(lab.vm_id):
        lab.check_images(point)
    point = await lab.capture()
    assert lab.stored(point) == lab.guest()
    assert lab.unfinished() == []
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=len(lab.points(lab.vm_id)))


@pytest.mark.parametrize(
    ("stage", "by"),
    [
        ("freeze", signal.SIGINT),
        ("attach", signal.SIGHUP),
        ("copy", signal.SIGTERM),
        ("copy", signal.SIGHUP),
        ("verify", signal.SIGINT),
        ("commit", signal.SIGHUP),
    ],
)
async def test_an_interrupted_capture_leaves_only_what_the_next_goes_on_with(
    stage: str, by: signal.Signals, v4_lab: Lab
) -> None:
    lab = v4_lab
    await start(lab)

    code = await Ntx(lab).run(stop_at=stage, after_s=0.05, by=by)

    points = lab.points(lab.vm_id)
    assert code == 128 + by or len(points) == 2
    is_kept = any(lab.repository.path.glob("*/.unfinished-*/disk-*.journal"))
    if len(points) == 1 and not is_kept:
        lab.assert_clean(points=1)
    assert lab.hot_added() == []
    assert servers(lab.repository.path) == []
    point = await lab.capture()
    assert point.report.resumed == is_kept
    assert lab.stored(point) == lab.guest()
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=len(points) + 1)
