"""A repository with half the space: one clear line, no point, and the same command goes on when there is more."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sweep import sweep
from tests.capture.lab import Lab
from tests.capture.resuming import fill, stored_to, write_after_freeze
from tests.cli.ntx import ntx
from tests.copying.interrupting import start


@pytest.fixture
def repository(small_fs: Callable[[str], Path]) -> Repository:
    return Repository(PointStore.create(small_fs("5m") / "repository"))


async def test_a_capture_without_space_is_one_clear_line(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    frozen = lab.guest()
    command = ("capture", "db01", "--to", lab.repository.path, "--bandwidth", "4M")

    process = start(*command, "--progress", "none", env=lab.sim.env)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1, err.decode()
    (line,) = [line for line in err.decode().splitlines() if not line.startswith("warning: ")]
    assert "No space left on device" in line
    assert sum(stored_to(lab).values()) > 0
    listed = ntx("points", "--repository", lab.repository.path, "--json")
    assert listed.json["points"] == []

    write_after_freeze(lab)
    subprocess.run(["mount", "-o", "remount,size=64m", lab.repository.path.parent], check=True)
    ran = ntx(*command, env=lab.sim.env)

    assert ran.code == 0, ran.err
    (point,) = lab.points(lab.vm_id)
    assert point.report.resumed == 1
    assert lab.stored(point) == frozen
    lab.check_images(point)
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    lab.assert_clean(points=1)
