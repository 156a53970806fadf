"""What a check finds in a repository, and that it changes nothing."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.check import CheckReport, DataOptions, check_repository
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import MachineError, NotFoundError
from ntxengine.repository import Point, Repository, Severity, interrupted, layout, sampled
from ntxengine.repository.lock import VmLock
from ntxengine.repository.store import PointStore
from ntxengine.repository.stored import StoredSample
from ntxengine.repository.structure import vm as structure_of_vm
from ntxengine.verify import Sampling
from tests.check.damage import DAMAGE, IMAGE, LEFTOVERS, NOW, cut, other_generation, said, sql, state_of
from tests.repository.builders import DISK, OTHER_VM, VM, ModelDisk, capture
from tests.repository.test_interrupted import RESUME
from tests.support.servers import require_root


async def check(root: Path, vm: str | None = None, **options: DataOptions) -> CheckReport:
    return await check_repository(root, vm, clock=lambda: NOW, **options)  # type: ignore[arg-type]


async def test_a_sound_repository_has_no_findings_and_is_not_changed(root: Path, points: list[Point]) -> None:
    before = state_of(root)

    report = await check(root)

    assert said(report) == []
    assert (report.vms, report.points, report.points_whole, report.bytes_read) == (1, 3, 3, None)
    assert state_of(root) == before


async def test_data_are_read_as_verifying_does_and_share_its_record(root: Path, points: list[Point]) -> None:
    report = await check(root, data=DataOptions(Sampling(share=0.5)))

    assert report.is_right
    assert report.bytes_read
    assert {each.point_id for each in _samples(root)} == {point.id for point in points}


def _samples(root: Path) -> tuple[StoredSample, ...]:
    return sampled.read(root / VM)


# ------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("what", DAMAGE)
async def test_damage_is_found_and_named_with_a_remedy(root: Path, points: list[Point], what: str) -> None:
    damage, kind, path = DAMAGE[what]
    damage(root, points)

    report = await check(root)

    found = [each for each in report.of(Severity.DAMAGE) if each.kind == kind]
    assert [str(each.path.relative_to(root / VM)) for each in found] == [path.format(*(point.id for point in points))]
    assert len(report.of(Severity.DAMAGE)) == 1, said(report)
    assert found[0].problem
    assert found[0].remedy


async def test_a_point_that_a_sync_is_writing_is_not_missing_though_it_is_held_already(
    root: Path, points: list[Point]
) -> None:
    DAMAGE["held point gone"][0](root, points)
    (root / VM / f".unfinished-{points[2].id}").mkdir(0o700)

    report = await check(root)

    assert report.of(Severity.DAMAGE) == []


async def test_data_that_were_to_be_read_and_cannot_be_are_no_success(
    root: Path, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(path: Path) -> Repository:
        raise MachineError("too many files")

    monkeypatch.setattr(Repository, "open", fail)

    with pytest.raises(MachineError):
        await check(root, data=DataOptions())


async def test_a_lost_or_damaged_marker_is_found_and_the_rest_is_checked(root: Path) -> None:
    (root / "ntx-repository.json").write_text("{")

    damaged = await check(root, data=DataOptions())
    (root / "ntx-repository.json").unlink()
    lost = await check(root)

    assert ("damage", "marker", "ntx-repository.json") in said(damaged)
    assert damaged.bytes_read is None
    assert said(lost) == [("damage", "marker", "ntx-repository.json")]
    assert "adopt" in lost.findings[0].remedy
    assert lost.points_whole == 3


async def test_what_is_no_repository_is_not_found(tmp_path: Path, root: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(NotFoundError):
            await check(path)
    with pytest.raises(NotFoundError):
        await check(root, OTHER_VM)


async def test_a_site_that_cannot_be_read_is_damage_and_a_copy_is_a_note(root: Path) -> None:
    site = {"machine_id": "x", "path": "/elsewhere", "file_system_uuid": "y", "file_system_id": "z"}
    (root / "ntx-site.json").write_text(json.dumps({"format": "ntxengine-site", "version": 1, "site": site}))
    copied = await check(root)
    (root / "ntx-site.json").write_text("nonsense")

    assert said(await check(root))[0] == ("damage", "site", "ntx-site.json")
    assert ("note", "copy", ".") in said(copied)


# ------------------------------------------------------------------------------------------------------- the catalog


async def test_a_catalog_that_tells_other_things_than_the_directory_is_damage(root: Path, points: list[Point]) -> None:
    sql(root, "UPDATE points SET document = replace(document, 'db01', 'db02')")
    sql(root, "UPDATE points SET document = CAST(document AS BLOB)")

    report = await check(root)

    assert said(report) == [("damage", "catalog", "catalog.sqlite")]
    assert f"point {points[0].id}, and 2 more" in report.findings[0].problem


async def test_a_catalog_that_is_behind_is_a_note_and_one_that_is_missing_is_nothing(
    root: Path, points: list[Point]
) -> None:
    sql(root, f"DELETE FROM points WHERE point_id = '{points[1].id}'")
    behind = await check(root)
    for path in root.glob("catalog.sqlite*"):
        path.unlink()

    assert said(behind) == [("note", "stale-catalog", "catalog.sqlite")]
    assert said(await check(root)) == []


@pytest.mark.parametrize("contents", [b"no database", b"SQLite format 3\0" + bytes(200)])
async def test_a_rotten_catalog_is_damage_and_is_left_as_it_is(root: Path, contents: bytes) -> None:
    for path in root.glob("catalog.sqlite*"):
        path.unlink()
    (root / "catalog.sqlite").write_bytes(contents)
    (root / "catalog.sqlite").chmod(0o600)

    report = await check(root)

    assert said(report) == [("damage", "catalog", "catalog.sqlite")]
    assert (root / "catalog.sqlite").read_bytes() == contents


async def test_something_else_in_its_place_is_named(root: Path) -> None:
    (root / "catalog.sqlite").unlink()
    (root / "catalog.sqlite").mkdir()

    assert ("damage", "link", "catalog.sqlite") in said(await check(root))


# --------------------------------------------------------------------------------------------------------- leftovers


@pytest.mark.parametrize("what", LEFTOVERS)
async def test_leftovers_are_found_and_nothing_is_damaged(root: Path, points: list[Point], what: str) -> None:
    leave, expected = LEFTOVERS[what]
    leave(root, points)
    PointStore.open(root).points()

    report = await check(root)

    ids = [point.id for point in points]
    assert {found[1:] for found in said(report)} == {(kind, path.format(*ids, vm=VM)) for kind, path in expected}
    assert {each.severity for each in report.findings} == {Severity.LEFTOVER}
    assert report.is_right


async def test_an_image_that_plain_qemu_cannot_open_any_more_is_damage(root: Path, points: list[Point]) -> None:
    other_generation(root, points, keep_old=False)

    report = await check(root)

    assert ("damage", "backing", f"{VM}/{points[1].id}/{IMAGE}") in said(report)


async def test_a_capture_that_can_be_gone_on_with_is_a_note_until_its_recovery_point_expires(
    root: Path, points: list[Point]
) -> None:
    folder = root / VM / ".unfinished-20261123T235900Z-abcdef"
    folder.mkdir(0o700)
    resume = replace(RESUME, vm_id=VM, point_id=layout.unfinished_id(folder), expires_at=NOW + timedelta(hours=1))
    interrupted.write(folder, resume)
    (folder / f"{IMAGE}.map").touch(0o600)
    can_go_on = await check(root)
    interrupted.write(folder, replace(resume, expires_at=NOW))

    assert [found[:2] for found in said(can_go_on)] == [("note", "interrupted")]
    assert [found[:2] for found in said(await check(root))] == [("leftover", "unfinished-point")]


async def test_a_point_that_a_sync_goes_on_with_is_a_note(root: Path) -> None:
    folder = root / VM / ".unfinished-20261123T235900Z-abcdef"
    folder.mkdir(0o700)
    (folder / layout.journal_name(DISK)).touch(0o600)

    assert [found[:2] for found in said(await check(root))] == [("note", "interrupted")]


async def test_nothing_is_a_leftover_while_somebody_works_on_the_vm(root: Path, points: list[Point]) -> None:
    (root / VM / f".removed-{points[0].id}").mkdir(0o700)

    with VmLock(root / VM, "test"):
        report = await check(root)

    assert said(report) == [("note", "in-use", VM)]


async def test_what_changes_each_time_it_is_looked_at_is_no_damage_and_all_else_is(
    root: Path, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    (points[0].path / "vm.json").write_text("{}")
    (points[1].path / "vm.json").write_text("{}")
    times = iter(range(100))
    monkeypatch.setattr(structure_of_vm, "_state", lambda folder: [(points[0].id, next(times)), (points[2].id, 1)])

    first = await check(root)
    monkeypatch.setattr(structure_of_vm, "_state", lambda folder: [(points[2].id, next(times))])
    third = await check(root)

    assert [found[:2] for found in said(first)] == [("note", "in-use")]
    assert [each.point_id for each in third.of(Severity.DAMAGE)] == [points[0].id, points[1].id]


# -------------------------------------------------------------------------------------------------------------- notes


async def test_what_is_not_ours_and_what_others_may_read_is_noted(root: Path, points: list[Point]) -> None:
    for path in (root / "lost+found", root / "note\x1b[31m.txt", root / VM / "x y", points[1].path / "disk-x.raw"):
        path.touch(0o600)
    points[2].path.chmod(0o755)

    report = await check(root)

    assert {(each.kind, each.path.name) for each in report.findings} == {
        ("unknown", "note\x1b[31m.txt"),
        ("unknown", "x y"),
        ("unknown", "disk-x.raw"),
        ("mode", VM),
    }
    assert {each.severity for each in report.findings} == {Severity.NOTE}


async def test_one_vm_alone_can_be_checked_by_name_or_uuid(root: Path, points: list[Point]) -> None:
    capture(PointStore.open(root), ModelDisk(512), vm_id=OTHER_VM, vm_name="other")
    cut(points[1].path / "vm.json")

    by_name, by_id, all_of_them = await check(root, "other"), await check(root, VM.upper()), await check(root)

    assert (said(by_name), by_name.points) == ([], 1)
    assert (len(by_id.findings), by_id.points_whole, by_id.points) == (1, 2, 3)
    assert (all_of_them.vms, all_of_them.points_whole) == (2, 3)


async def test_a_repository_behind_a_link_and_a_read_only_one_are_checked(
    root: Path, points: list[Point], tmp_path: Path
) -> None:
    require_root("a read-only mount")
    link, mount = tmp_path / "link", tmp_path / "mount"
    link.symlink_to(root)
    mount.mkdir()
    subprocess.run(["mount", "--bind", root, mount], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
        found = await check(mount, data=DataOptions(Sampling(share=1.0)))
    finally:
        subprocess.run(["umount", mount], check=True)

    assert said(found) == []
    assert found.bytes_read
    assert said(await check(link)) == []


async def test_each_manifest_is_read_once_however_long_the_chain(
    root: Path, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    whole_open = Manifest.open

    def watched(path: Path | str) -> Manifest:
        opened.append(str(path))
        return whole_open(path)

    monkeypatch.setattr(Manifest, "open", watched)

    await check(root)

    assert len(opened) == len(set(opened)) == 3
