"""`ntx check` and `ntx repair`: what a person sees, what a program gets, and how they end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ntxengine.repository import Point
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE
from tests.check.copied import points as points
from tests.check.copied import root as root
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.repository.builders import VM, ModelDisk, Write, capture


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = PointStore.create(tmp_path_factory.mktemp("check") / "repo")
    for number in (1, 2):
        capture(store, ModelDisk(2 * BLOCK_SIZE), [Write(BLOCK_SIZE * number - 512, 512, number)], on_top=False)
    return store.path


def test_a_sound_repository_is_told_so_in_one_line(root: Path, points: list[Point]) -> None:
    ran = ntx("check", "--repository", root, "--progress", "none")
    data = ntx("check", "db01", "--repository", root, "--read-data", "all", "--json")

    assert (ran.code, ran.out) == (0, "")
    assert "2 of 2 points of 1 VM have no damage" in ran.err
    assert data.code == 0
    assert data.json["findings"] == []
    assert data.json["bytes_read"] == 2 * BLOCK_SIZE


def test_leftovers_alone_end_with_0_and_a_note(root: Path, points: list[Point]) -> None:
    (root / VM / f".removed-{points[0].id}").mkdir(0o700)

    ran = ntx("check", "--repository", root)

    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["SEVERITY", "PATH", "WHAT", "REMEDY"]
    assert ran.out.splitlines()[1].startswith(f"leftover  {VM}/.removed-{points[0].id}  ")
    assert "`ntx repair` removes what was left" in ran.err


def test_damage_ends_with_3_where_something_is_whole_and_else_with_1(root: Path, points: list[Point]) -> None:
    (points[0].path / "vm.json").write_text("{}")

    some = ntx("check", "--repository", root, "--json")
    (points[1].path / "vm.json").write_text("{}")
    every = ntx("check", "--repository", root, "--json")

    assert (some.code, every.code) == (3, 1)
    (finding,) = some.json["findings"]
    assert finding["path"] == str(points[0].path / "vm.json")
    assert (finding["severity"], finding["kind"], finding["point_id"]) == ("damage", "file", points[0].id)
    assert some.json["error"]["message"].startswith(f"{points[0].path / 'vm.json'}: is damaged")
    assert "1 other thing damaged too" in every.json["error"]["message"]


def test_rot_of_a_disk_is_found_only_where_data_are_read(root: Path, points: list[Point]) -> None:
    image = points[0].image_path(points[0].disks[0])
    image.write_bytes(image.read_bytes().replace(b"\1" * 512, b"\1" * 511 + b"\0"))

    names = ntx("check", "--repository", root)
    data = ntx("check", "--repository", root, "--read-data", "100%", "--json")

    assert names.code == 0
    assert data.code == 3
    (finding,) = data.json["findings"]
    assert (finding["kind"], finding["path"]) == ("data", str(image))
    assert "at offset 0" in finding["problem"]
    assert "--no-check" in finding["remedy"]


@pytest.mark.parametrize("amount", ["0%", "101%", "5", "some", "-1%"])
def test_an_amount_that_is_none_is_refused(root: Path, amount: str) -> None:
    assert_refused(ntx("check", "--repository", root, "--read-data", amount), 2, "--read-data", "5%")


def test_what_is_no_repository_is_refused(tmp_path: Path, root: Path) -> None:
    assert_refused(ntx("check", "--repository", tmp_path / "nothing"), 10, "is not a repository")
    assert_refused(ntx("check", "nobody", "--repository", root, "--json"), 10, "nobody")
    assert_refused(ntx("repair", "--repository", tmp_path / "nothing"), 10, "is not a repository")


def test_a_repair_says_what_before_and_does_it(root: Path, points: list[Point]) -> None:
    removed = root / VM / f".removed-{points[0].id}"
    removed.mkdir(0o700)

    planned = ntx("repair", "-n", "--repository", root)
    is_there = removed.exists()
    done = ntx("repair", "--repository", root)
    quiet = ntx("repair", "--repository", root, "--quiet")

    assert (planned.code, done.code, is_there, removed.exists()) == (0, 0, True, False)
    assert planned.out.splitlines()[-1] == "would mend 1 thing"
    assert done.out.splitlines()[-1] == "mended 1 thing"
    assert planned.out.splitlines()[:-1] == done.out.splitlines()[:-1]
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_what_a_repair_leaves_to_a_person_ends_with_3(root: Path, points: list[Point]) -> None:
    (points[0].path / "vm.json").unlink()

    ran = ntx("repair", "--repository", root, "--json")

    assert ran.code == 3
    assert [(each["kind"], bool(each["remedy"])) for each in ran.json["remaining"]] == [("file", True)]
    assert ran.json["repairs"] == []


def test_names_that_are_hostile_are_shown_and_not_obeyed(root: Path) -> None:
    (root / "evil\n\x1b[31mred").mkdir(0o700)

    ran = ntx("check", "--repository", root)

    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "evil\\n\\x1b[31mred" in ran.out


@pytest.mark.parametrize("command", ["check", "repair"])
def test_a_closed_stdout_changes_nothing(root: Path, points: list[Point], command: str) -> None:
    (root / VM / f".removed-{points[0].id}").mkdir(0o700)
    arguments = [*COMMAND, command, "--repository", str(root), "--progress", "none"]

    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *arguments], env=environment(), capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
