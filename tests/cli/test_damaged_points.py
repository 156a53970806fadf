"""What `ntx verify` and `ntx restore` say of points that rotted, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.repository import Point, Repository
from tests.cli.ntx import ntx
from tests.repository.builders import ModelDisk, Write, capture


@pytest.fixture
def point(tmp_path: Path) -> Point:
    return capture(Repository.create(tmp_path / "repo"), ModelDisk(65536), [Write(0, 512, 1)])


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
