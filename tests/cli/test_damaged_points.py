"""What `ntx verify` and `ntx restore` say of points that rotted, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from tests.cli.ntx import assert_refused, ntx
from tests.repository.builders import ModelDisk, Write, capture


@pytest.fixture
def point(tmp_path: Path) -> Point:
    return capture(PointStore.create(tmp_path / "repo"), ModelDisk(65536), [Write(0, 512, 1)])


def test_a_damaged_configuration_is_named_and_the_disks_are_restored(point: Point, tmp_path: Path) -> None:
    (point.path / "vm.json").write_text("{}")

    verified = ntx("verify", "db01", "--repository", tmp_path / "repo", "--json")
    restored = ntx("restore", "db01", tmp_path / "out", "--from", tmp_path / "repo", "--json")

    assert verified.code == 1
    assert [entry["right"] for entry in verified.json["points"]] == [False]
    assert "vm.json" in verified.json["points"][0]["problems"][0]
    assert "vm.json: is damaged" in verified.err
    assert restored.code == 3
    assert "vm.json" in restored.json["config_problem"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scsi.0.raw"]


def test_rot_is_not_restored_unless_it_is_to_be_saved(point: Point, tmp_path: Path) -> None:
    image = point.image_path(point.disks[0])
    image.write_bytes(image.read_bytes().replace(b"\1" * 512, b"\1" * 511 + b"\0"))
    command = ("restore", point.id, tmp_path / "out", "--from", tmp_path / "repo", "--json")

    refused = ntx(*command)
    salvaged = ntx(*command, "--no-check")
    both = ntx(*command, "--no-check", "--verify")

    assert_refused(refused, 1, point.id, "scsi.0", "at offset 0", "--no-check")
    assert salvaged.code == 0
    assert salvaged.json["disks"][0]["checked"] is False
    assert "nothing was compared" in salvaged.err
    assert (tmp_path / "out" / "scsi.0.raw").read_bytes()[:512] == b"\1" * 511 + b"\0"
    assert both.code == 2


def test_rot_below_is_told_once_and_both_points_are_wrong(point: Point, tmp_path: Path) -> None:
    repository = PointStore.open(tmp_path / "repo")
    model = ModelDisk(65536, b"\1" * 512)
    upper = capture(repository, model)
    right = capture(repository, model, [Write(0, 512, 2)], on_top=False)
    image = point.image_path(point.disks[0])
    image.write_bytes(image.read_bytes().replace(b"\1" * 512, b"\1" * 511 + b"\0"))

    printed = ntx("verify", "--all", "--repository", repository.path, "--json")
    table = ntx("verify", upper.id, point.id, "--repository", repository.path)

    assert printed.code == 3
    disks = {entry["point_id"]: entry["disks"][0] for entry in printed.json["points"]}
    assert [disks[each.id]["right"] for each in (point, upper, right)] == [False, False, True]
    assert [disks[each.id]["wrong_blocks"] for each in (point, upper)] == [1, 0]
    assert disks[upper.id]["below_point_ids"] == [point.id]
    assert disks[upper.id]["bytes_read"] == 0
    assert table.code == 1
    assert f"below, in point {point.id}" in " ".join(table.out.split())


@pytest.mark.parametrize("by_name", [True, False])
def test_a_record_that_rotted_is_refused_and_can_be_saved(point: Point, tmp_path: Path, by_name: bool) -> None:
    upper = capture(PointStore.open(tmp_path / "repo"), ModelDisk(65536, b"\1" * 512), [Write(512, 512, 3)])
    for each in [upper] if by_name else [point, upper]:
        file = each.path / "point.json"
        file.write_bytes(file.read_bytes().replace(b"scsi.0", b"scsi.1"))
    command = ("restore", "db01" if by_name else upper.id, tmp_path / "out", "--from", tmp_path / "repo")

    refused = ntx(*command)
    salvaged = ntx(*command, "--no-check")

    assert_refused(refused, 1, "point.json: is damaged", "SHA256SUMS")
    assert salvaged.code == 0, salvaged.err
    assert (tmp_path / "out" / "scsi.1.raw").read_bytes()[:1024] == b"\1" * 512 + b"\3" * 512
