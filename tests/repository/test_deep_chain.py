"""Chains of many images: what they cost, and what is said where qemu gives up."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import RepositoryError, ToolError
from ntxengine.images import process, qemu_img
from ntxengine.images.create import NewImage
from ntxengine.repository import Point, chain, layout, scan
from ntxengine.repository.chain import Chains
from ntxengine.repository.store import PointStore
from tests.repository.builders import ModelDisk, capture, make
from tests.repository.chains import reason_of


def deepen(repository: PointStore, count: int) -> list[Point]:
    """Make `count` points of an empty disk, each on top of the one before."""
    return [capture(repository, ModelDisk(4096)) for _ in range(count)]


@pytest.fixture
def fake_qemu_img(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A qemu-img that counts how often it is started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "qemu-img"
    script.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/started\nexec {shutil.which("qemu-img")} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return script


def test_a_chain_is_checked_without_starting_a_program(repository: PointStore, fake_qemu_img: Path) -> None:
    point = deepen(repository, 6)[-1]

    found = repository.images(point, point.disks[0])

    assert len(found) == 6
    assert fake_qemu_img.exists()
    assert not fake_qemu_img.parent.with_name("started").exists()


@dataclass
class Reads:
    """What was read of a repository: folders of points, and images."""

    points: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    check, read_point = qemu_img.check, scan.read_point

    def watched_check(path: Path, **expected: Any) -> None:
        found.images.append(path)
        check(path, **expected)

    def watched_read(folder: Path, **options: bool) -> object:
        found.points.append(folder)
        return read_point(folder, **options)

    monkeypatch.setattr(qemu_img, "check", watched_check)
    monkeypatch.setattr(chain, "read_point", watched_read)
    return found


def test_many_points_read_each_point_and_image_below_them_once(repository: PointStore, reads: Reads) -> None:
    points = deepen(repository, 7)
    reads.points.clear()
    reads.images.clear()

    chains = Chains()
    depths = [len(chains.images_of(point, point.disks[0])) for point in reversed(points)]

    assert depths == [7, 6, 5, 4, 3, 2, 1]
    assert len(reads.points) == len(set(reads.points)) == 6
    assert len(reads.images) == len(set(reads.images)) == 7


def test_one_damaged_image_is_the_reason_for_all_above_it_and_read_once(repository: PointStore, reads: Reads) -> None:
    points = deepen(repository, 6)
    points[2].image_path(points[2].disks[0]).unlink()
    reads.images.clear()

    chains = Chains()
    reasons = []
    for point in reversed(points):
        try:
            chains.images_of(point, point.disks[0])
            reasons.append("")
        except RepositoryError as exc:
            reasons.append(str(exc))

    assert [points[2].id in reason and "is missing" in reason for reason in reasons] == [True] * 4 + [False] * 2
    assert reasons[4:] == ["", ""]
    assert len(reads.images) == len(set(reads.images)) == 6


def test_an_overlay_is_made_also_where_plain_qemu_cannot_follow_the_names_any_more(tmp_path: Path) -> None:
    name = "disk-d15c0000-0000-4000-8000-000000000001.qcow2"
    longest = layout.longest_chain(tmp_path)
    assert longest > 100
    folders = [tmp_path / f"20261123T{number:06d}Z-8f3a2c" for number in range(longest + 1)]
    for folder, below in zip(folders, [None, *folders], strict=False):
        folder.mkdir()
        make(NewImage(folder / name, 65536, f"../{below.name}/{name}" if below else ""))

    plain = [
        subprocess.run(["qemu-img", "convert", "-O", "raw", folder / name, tmp_path / "raw"], capture_output=True)
        for folder in folders[-2:]
    ]

    assert [each.returncode for each in plain] == [0, 1]
    assert b"File name too long" in plain[1].stderr
    qemu_img.check(folders[-1] / name, size=65536, backing=f"../{folders[-2].name}/{name}")


@pytest.mark.parametrize("is_map", [False, True])
async def test_of_a_long_complaint_the_end_is_kept_where_the_cause_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_map: bool
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    script = (
        "i=0; while [ $i -lt 300 ]; do echo 'a name that is too long, and goes on and on and on' >&2; i=$((i+1)); done"
    )
    (folder / "qemu-img").write_text(f"#!/bin/sh\n{script}\necho 'File name too long' >&2; exit 1\n")
    (folder / "qemu-img").chmod(0o755)
    path = tmp_path / "a.qcow2"
    await qemu_img.create(path, size=65536)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    if is_map:
        words = await reason_of([path])
    else:
        with pytest.raises(ToolError) as caught:
            await process.run("qemu-img", "info", action="looking", path=path, timeout_s=10)
        words = str(caught.value)

    assert words.endswith("File name too long")


def test_a_chain_whose_names_are_too_long_together_says_so(tmp_path: Path) -> None:
    images_of_all = [tmp_path / ("x" * 200) / ("y" * 200) / f"{number}.qcow2" for number in range(300)]

    with pytest.raises(RepositoryError, match=r"on top of 299 images .* move the repository to a shorter path"):
        qemu_img.node(images_of_all)
