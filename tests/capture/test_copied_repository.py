"""A copy of a repository harms nothing that its original made; one that was moved or restored goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.errors import LockedError, RepositoryError
from ntxengine.events import Stage
from ntxengine.repository import Repository, site
from ntxengine.repository.store import PointStore
from ntxengine.sim.faults.lists import ListFault
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab, Witness
from tests.cli.ntx import ntx
from tests.cli.test_json import problems


def copy_of(repository: Repository, path: Path) -> Repository:
    shutil.copytree(repository.path, path, symlinks=True)
    return Repository(PointStore.open(path))


def seem_elsewhere(repository: Repository) -> None:
    """Let a repository believe that it was last used in another place altogether."""
    path = repository.path / site.SITE_FILE
    document = json.loads(path.read_text())
    document["site"] = dict.fromkeys(document["site"], "elsewhere")
    path.write_text(json.dumps(document))


class Copier(Witness):
    """Copies the repository, as a nightly rsync may, and sweeps the copy while a capture runs."""

    def __init__(self, lab: Lab, path: Path) -> None:
        super().__init__()
        self.lab = lab
        self.path = path
        self.copy: Repository | None = None

    def began(self, stage: Stage) -> None:
        if stage is Stage.COPY and self.copy is None:
            self.copy = copy_of(self.lab.repository, self.path)


async def test_a_copy_made_while_a_capture_runs_removes_nothing_of_it(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    copier = Copier(lab, tmp_path / "copy")
    lab.make_witness = lambda: copier
    swept = []
    one_at_a_time = asyncio.Lock()

    class Sweeps(type(lab.prism)):  # type: ignore[misc]
        async def detach_disk(self, disk: object) -> None:
            assert copier.copy is not None
            async with one_at_a_time:
                swept.append(await sweep(lab.prism, copier.copy, attach=lab.attach_options))
            await super().detach_disk(disk)

    lab.prism.__class__ = Sweeps

    point = await lab.capture()

    assert len(swept) == len(point.disks)
    for report in swept:
        assert report.removed == []
        assert [each.id for each in report.resumable] == [point.id]
        assert [each.name for each in report.not_recorded] == [f"ntx-{lab.repository.id}-{point.id}"]
    lab.assert_clean(points=1)


async def test_a_capture_in_a_copy_leaves_the_reference_that_its_original_needs(lab: Lab, tmp_path: Path) -> None:
    first = await lab.capture()
    original, lab.repository = lab.repository, copy_of(lab.repository, tmp_path / "copy")
    lab.write(0, 0, os.urandom(MIB))

    second = await lab.capture()
    warnings = lab.witness.warnings
    lab.repository = original
    third = await lab.capture()

    assert second.parent_id == third.parent_id == first.id
    assert any(first.recovery_point_id in text and "copied" in text for text in warnings)
    assert third.tracking == second.tracking != "digest-scan"


async def test_a_repository_that_was_moved_goes_on(lab: Lab, tmp_path: Path) -> None:
    first = await lab.capture()
    moved = tmp_path / "moved"
    os.rename(lab.repository.path, moved)
    lab.repository = await Repository.open(moved)

    second = await lab.capture()

    assert second.parent_id == first.id
    lab.assert_clean(points=2)
    assert lab.witness.warnings == []
    assert json.loads((moved / site.SITE_FILE).read_text())["site"]["path"] == str(moved)


async def test_a_repository_that_was_restored_from_a_backup_goes_on(lab: Lab, tmp_path: Path) -> None:
    await lab.capture()
    backup = copy_of(lab.repository, tmp_path / "backup")
    os.rename(lab.repository.path, tmp_path / "lost")  # not removed: its inodes could be given again
    lab.repository = copy_of(backup, lab.repository.path)

    await lab.capture()
    warnings = lab.witness.warnings
    third = await lab.capture()
    await sweep(lab.prism, lab.repository)

    assert len(warnings) == 1  # of the one reference that it did not make itself
    assert lab.witness.warnings == []
    assert len(lab.recovery_points()) == 2
    assert lab.points()[-1].id == third.id


@pytest.fixture
def file_system(tmp_path: Path) -> Iterator[FileSystem]:
    made = FileSystem(tmp_path / "ext4")
    yield made
    made.unmount()


class FileSystem:
    """An ext4 in a file, mounted in one place at a time."""

    def __init__(self, image: Path) -> None:
        self._image = image
        self._where: Path | None = None
        with image.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)

    def mount(self, where: Path) -> Path:
        self.unmount()
        where.mkdir()
        subprocess.run(["mount", "-o", "loop", self._image, where], check=True)
        self._where = where
        return where

    def unmount(self) -> None:
        if self._where is not None:
            subprocess.run(["umount", self._where], check=True)
        self._where = None


async def test_a_repository_whose_disk_moved_to_another_machine_and_mount_point_goes_on(
    v4_lab: Lab, file_system: FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    lab.repository = await Repository.create(file_system.mount(tmp_path / "before") / "repository")
    first = await lab.capture()
    lab.repository = await Repository.open(file_system.mount(tmp_path / "after") / "repository")
    (tmp_path / "machine-id").write_text("another\n")
    monkeypatch.setattr(site, "_MACHINE_ID", tmp_path / "machine-id")

    second = await lab.capture()

    assert lab.witness.warnings == []
    assert [point.id for point in lab.points()] == [first.id, second.id]
    lab.assert_clean(points=2)


async def test_where_nothing_matches_a_capture_warns_and_a_sweep_asks_for_adopt(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    seem_elsewhere(lab.repository)
    before = (lab.repository.path / site.SITE_FILE).read_bytes()

    await lab.capture()
    warnings = lab.witness.warnings
    with pytest.raises(RepositoryError, match=r"seems to be a copy.*ntx repository adopt"):
        await sweep(lab.prism, lab.repository)

    assert any("seems to be a copy" in text and "ntx repository adopt" in text for text in warnings)
    assert (lab.repository.path / site.SITE_FILE).read_bytes() == before
    assert first.id in {point.id for point in lab.points()}


async def test_where_nothing_matches_a_reference_without_a_record_is_left(v4_lab: Lab) -> None:
    lab = v4_lab
    first = await lab.capture()
    seem_elsewhere(lab.repository)
    for path in lab.repository.path.glob("*/.cluster-*"):
        path.unlink()

    await lab.capture()

    assert len(lab.recovery_points()) == 2
    assert any(first.recovery_point_id in text and "expires" in text for text in lab.witness.warnings)


async def test_an_adopted_copy_is_a_repository_of_its_own(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    first = await lab.capture()
    original = lab.repository
    copy = copy_of(original, tmp_path / "copy")
    seem_elsewhere(copy)

    lab.repository = await Repository.adopt(copy.path)
    report = await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    second = await lab.capture()
    third = await lab.capture()

    assert lab.repository.id != original.id
    assert report.removed == []
    assert [point.id for point in lab.points()] == [first.id, second.id, third.id]
    assert lab.recovery_points() == sorted([f"ntx-{original.id}-{first.id}", f"ntx-{lab.repository.id}-{third.id}"])
    assert lab.witness.warnings == []


async def test_a_filter_that_hides_what_is_there_costs_no_record(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    await lab.capture()
    lab.repository = await Repository.adopt(copy_of(lab.repository, tmp_path / "copy").path)
    lab.sim.faults.lists.append(ListFault(path="/recovery-points$", kind="vanish", value=9))

    await sweep(lab.prism, lab.repository, attach=lab.attach_options)

    assert lab.sim.faults.lists == [] or lab.sim.faults.lists[0].count == 0
    assert len((await lab.repository.cluster_records(lab.vm_id)).foreign) == 1


async def test_an_adopted_copy_of_an_older_version_leaves_what_its_original_has(v4_lab: Lab, tmp_path: Path) -> None:
    lab = v4_lab
    first = await lab.capture()
    for path in lab.repository.path.glob("*/.cluster-*"):
        path.unlink()
    lab.repository = await Repository.adopt(copy_of(lab.repository, tmp_path / "copy").path)

    await lab.capture()
    await sweep(lab.prism, lab.repository)

    assert first.recovery_point_id in lab.sim.world.state.points


async def test_a_repository_that_is_in_use_is_not_adopted(v4_lab: Lab) -> None:
    lab = v4_lab
    before = lab.repository.id

    async with lab.repository.lock(lab.vm_id):
        with pytest.raises(LockedError):
            await Repository.adopt(lab.repository.path)

    assert PointStore.open(lab.repository.path).id == before


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"format":"ntxengine-site","version":2,"site":{}}'])
async def test_a_site_that_cannot_be_read_counts_as_another(damage: bytes, v4_lab: Lab) -> None:
    lab = v4_lab
    (lab.repository.path / site.SITE_FILE).write_bytes(damage)

    await lab.capture()

    assert any(site.SITE_FILE in text and "adopt" in text for text in lab.witness.warnings)


def test_adopt_prints_the_new_id(tmp_path: Path) -> None:
    repository = PointStore.create(tmp_path / "repository")

    ran = ntx("repository", "adopt", repository.path, "--json")

    assert ran.code == 0, ran.err
    assert problems(ran.json, "repository-adopt.json") == []
    assert ran.json["repository_id"] == PointStore.open(repository.path).id != repository.id
