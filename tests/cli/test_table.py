"""Tables: whole rows for a program, what fits for a person; ids and numbers as they are for both."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.cli import cluster, points, report, restore, sweep, verify
from ntxengine.cli.table import Column, GrowingTable
from ntxengine.cli.text import text_width
from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from tests.cli.ntx import COMMAND, ntx
from tests.cli.terminal import on_a_terminal
from tests.repository.builders import ModelDisk, Write, capture

UUID = "00000000-0000-4000-8000-000000000001"
COLUMNS = [Column("NAME", shrinks=True), Column("UUID"), Column("SIZE", right=True), Column("RESULT", fold=True)]
ROWS = [
    ["n" * 200 + "-07", UUID, "1023.9 GiB", "as captured"],
    ["[red]x", UUID, "1 B", "the digest of 3 blocks differs: " * 4],
]


def capture_as(vm_name: str, path: Path) -> Point:
    return capture(PointStore.create(path), ModelDisk(65536), [Write(0, 512, 1)], vm_name=vm_name)


def test_row_is_one_line_where_there_is_no_terminal() -> None:
    lines = GrowingTable(COLUMNS, width=None).lines(ROWS)

    assert len(lines) == 1 + len(ROWS)
    for line, row in zip(lines[1:], ROWS, strict=True):
        for cell in row:
            assert cell.rstrip() in line


@pytest.mark.parametrize("width", [80, 100, 140])
def test_table_is_no_wider_than_the_terminal(width: int) -> None:
    lines = GrowingTable(COLUMNS, width=width).lines(ROWS)

    assert max(map(text_width, lines)) <= width
    assert any("n…n" in line and "-07" in line for line in lines)
    assert sum(line.count("digest") for line in lines) == 4


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_ids_and_numbers_are_never_cut_nor_folded(width: int) -> None:
    lines = GrowingTable(COLUMNS, width=width).lines(ROWS)

    assert sum(UUID in line for line in lines) == len(ROWS)
    assert sum("1023.9 GiB" in line for line in lines) == 1


def test_each_cell_has_a_line_where_there_is_no_room_for_a_table() -> None:
    lines = GrowingTable(COLUMNS, width=50).lines([ROWS[1]])

    assert lines == ["NAME    [red]x", f"UUID    {UUID}", "SIZE    1 B", f"RESULT  {ROWS[1][3].rstrip()}", ""]


def test_columns_stand_below_each_other_in_any_script() -> None:
    lines = GrowingTable([Column("NAME"), Column("SIZE", right=True)], width=None).lines(
        [["数据库", "1 B"], ["db", "10 B"]]
    )

    assert lines == ["NAME    SIZE", "数据库   1 B", "db      10 B"]


@pytest.mark.parametrize("columns", [each.COLUMNS for each in (cluster, points, report, restore, sweep, verify)])
def test_heading_is_one_line(columns: list[Column]) -> None:
    lines = GrowingTable(columns, width=80).lines([["1"] * len(columns)])

    assert len(lines) == 3
    assert lines[0].split()[0] == columns[0].title


@pytest.mark.parametrize("is_quiet", [False, True])
def test_list_goes_to_a_pipe_whole(is_quiet: bool, tmp_path: Path) -> None:
    name = "production-database-of-the-northern-branch-office-" * 4 + "01"
    point = capture_as(name, tmp_path / "repository")

    ran = ntx("points", "--repository", tmp_path / "repository", *(["-q"] if is_quiet else []), env={"COLUMNS": "60"})

    assert len(ran.out.splitlines()) == 2
    assert name in ran.out
    assert point.id in ran.out


def test_narrow_terminal_shortens_the_name_and_wide_does_not(tmp_path: Path) -> None:
    name = "production-database-of-the-northern-branch-office-01"
    point = capture_as(name, tmp_path / "repository")
    command = (*COMMAND, "points", "--repository", str(tmp_path / "repository"))
    env = {"TERM": "xterm", "COLUMNS": "90"}

    narrow = on_a_terminal(*command, env=env, is_stdout_too=True)
    wide = on_a_terminal(*command, "-o", "wide", env=env, is_stdout_too=True)

    assert "…" in narrow
    assert name not in narrow
    assert point.id in narrow
    assert name in wide
    assert point.vm_id in wide


def test_quiet_work_says_nothing_when_it_succeeds(tmp_path: Path) -> None:
    copied = ntx("copy", "pattern:1M", tmp_path / "a", "-q")
    as_json = ntx("copy", "pattern:1M", tmp_path / "b", "-q", "--json")
    listed = ntx("checksum", tmp_path / "a", "-q")

    assert (copied.code, copied.out, copied.err) == (0, "", "")
    assert as_json.json["bytes_done"] == 1024**2
    assert as_json.err == ""
    assert listed.out.split()[0] == as_json.json["digest"]
    assert listed.err == ""


def test_quiet_verification_shows_what_is_wrong(tmp_path: Path) -> None:
    point = capture_as("db01", tmp_path / "repository")
    verify = ("verify", "--all", "--repository", tmp_path / "repository", "-q")

    before = ntx(*verify)
    image = point.image_path(point.disks[0])
    image.write_bytes(image.read_bytes().replace(b"\1" * 512, b"\2" * 512))
    after = ntx(*verify)

    assert (before.code, before.out, before.err) == (0, "", "")
    assert after.code == 1
    assert point.id in after.out
