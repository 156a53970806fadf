"""`ntx diff`: what a person sees of two points, and what a program gets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ntxengine.cli.strip import ASCII_SHADES, SHADES, strip
from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.cli.terminal import on_a_terminal, what_is_seen
from tests.repository.builders import DISK, OTHER_VM, ModelDisk, Write, capture

SIZE = 16 * BLOCK_SIZE


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("with spaces") / "repo"


@pytest.fixture(scope="module")
def points(repository: Path) -> list[Point]:
    store, model = PointStore.create(repository), ModelDisk(SIZE)
    return [
        capture(store, model, [Write(0, BLOCK_SIZE, 1)], label="scsi\n.0"),
        capture(store, model, [Write(0, BLOCK_SIZE, 0), Write(8 * BLOCK_SIZE, 8 * BLOCK_SIZE, 2)], label="scsi\n.0"),
        capture(store, ModelDisk(SIZE), vm_id=OTHER_VM, vm_name="other"),
    ]


def test_a_table_has_a_line_for_each_disk_and_no_chart_where_nobody_sees_it(
    points: list[Point], repository: Path
) -> None:
    ran = ntx("diff", points[0].id, "db01", "--repository", repository)

    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0].split() == ["DISK", "CHANGE", "SIZE", "REGIONS", "DIFFERS", "NOW", "ZERO"]
    (row,) = ran.out.splitlines()[1:]
    assert all(word in row for word in ("changed", "576.0 KiB", "64.0 KiB"))
    assert "1 disk of 1 not the same" in ran.err


def test_regions_are_one_object_that_begins_with_them(points: list[Point], repository: Path) -> None:
    ran = ntx("diff", points[0].id, points[1].id, "--repository", repository, "--regions", "--json")
    same = ntx("diff", points[1].id, points[1].id, "--repository", repository, "--regions", "--json")

    assert ran.json["regions"] == [
        {"disk_id": DISK, "offset": 0, "length": BLOCK_SIZE, "type": "zero"},
        {"disk_id": DISK, "offset": 8 * BLOCK_SIZE, "length": 8 * BLOCK_SIZE, "type": "data"},
    ]
    assert ran.json["disks"][0]["regions"] == 2
    assert (same.json["regions"], same.json["disks"][0]["change"]) == ([], "same")


def test_regions_are_a_table_too(points: list[Point], repository: Path) -> None:
    ran = ntx("diff", points[0].id, points[1].id, "--repository", repository, "--regions")

    assert [line.split()[-3:] for line in ran.out.splitlines()[1:]] == [
        ["0", str(BLOCK_SIZE), "zero"],
        [str(8 * BLOCK_SIZE), str(8 * BLOCK_SIZE), "data"],
    ]


@pytest.mark.parametrize(("encoding", "shades"), [("utf-8", SHADES), ("ascii", ASCII_SHADES)])
def test_on_a_terminal_each_disk_is_a_strip_as_wide_as_that(
    points: list[Point], repository: Path, encoding: str, shades: str
) -> None:
    command = [*COMMAND, "diff", points[0].id, points[1].id, "--repository", str(repository)]
    env = {"PYTHONIOENCODING": encoding, "COLUMNS": "60", "TERM": "xterm"}

    seen = what_is_seen(on_a_terminal(*command, env=env, is_stdout_too=True))

    (chart,) = [line for line in seen if line.startswith("scsi\\n.0  ") and "changed" not in line]
    cells = chart.split("  ", 1)[1][1:-1]
    assert len(chart) <= 60
    assert set(cells) <= set(shades)
    assert (cells[0], cells[len(cells) // 4], cells[-1]) == (shades[-1], shades[0], shades[-1])


def test_the_least_that_differs_is_seen_and_only_all_of_it_is_dark() -> None:
    assert strip([0, 1e-9, 0.3, 0.5, 0.99, 1], "utf-8") == "│ ░░▒▓█│"
    assert strip([0, 1e-9, 1], "latin-1") == "| .#|"
    assert strip([0], "no such encoding") == "| |"


def test_what_cannot_be_compared_is_refused_in_one_line(points: list[Point], repository: Path) -> None:
    command = ("diff", points[0].id)

    assert_refused(ntx(*command, points[2].id, "--repository", repository), 2, "two points of one VM")
    assert_refused(ntx(*command, "nobody", "--repository", repository, "--json"), 10, "nobody")
    assert_refused(ntx(*command, "db01", "--disk", "x", "--repository", repository), 10, "no disk 'x'")


def test_a_closed_stdout_is_no_traceback(points: list[Point], repository: Path) -> None:
    command = [*COMMAND, "diff", points[0].id, points[1].id, "--repository", str(repository), "--regions", "--json"]

    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], env=environment(), capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_damaged_manifest_ends_with_1_and_the_disk_says_why(tmp_path: Path) -> None:
    store, model = PointStore.create(tmp_path / "repo"), ModelDisk(BLOCK_SIZE)
    before, after = capture(store, model), capture(store, model, [Write(0, 1, 1)])
    before.manifest_path(before.disks[0]).unlink()

    ran = ntx("diff", before.id, after.id, "--repository", store.path, "--json")

    assert ran.code == 1
    assert "manifest" in ran.json["disks"][0]["problem"]
    assert "1 disk of 1 cannot be compared" in ran.json["error"]["message"]
