"""`ntx stats`: what a person sees, and a program gets."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.repository.builders import OTHER_VM, VM
from tests.stats.test_stats import DAY, START, add


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = PointStore.create(tmp_path_factory.mktemp("stats of") / "a repository")
    for day in range(3):
        add(store, START + day * DAY, 64, sent=65536)
    add(store, START, 64, vm_id=OTHER_VM)
    add(store, START + timedelta(hours=1), 64, vm_id=OTHER_VM)
    return store.path


def test_all_vms_have_a_line_each_and_the_totals_say_what_is_not_known(root: Path) -> None:
    ran = ntx("stats", "--repository", root)

    assert ran.code == 0, ran.err
    heading, first, second, *rest = ran.out.splitlines()
    assert heading.split()[:4] == ["VM", "POINTS", "TAKES", "DISKS"]
    assert {first.split()[1], second.split()[1]} == {"2", "3"}
    totals = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in rest if line}
    assert "96.0 KiB are stored of 192.0 KiB sent, 50 %" in totals["compression"]
    assert totals["growth"].endswith("a day, without 1 of 2 VMs of which it is not known")
    assert "at this growth" in totals["room for"]


def test_one_vm_has_a_line_for_each_point(root: Path) -> None:
    by_id = ntx("stats", OTHER_VM, "--repository", root)
    document = ntx("stats", VM, "--repository", root, "--json").json

    assert [line.split()[1] for line in by_id.out.splitlines()[1:3]] == ["full", "full"]
    assert "growth" in by_id.out
    assert "not known" in by_id.out
    assert document["days_left"] is None
    assert [point["forgotten"] for point in document["vms"][0]["points"]] == [False] * 3


def test_names_that_are_not_there_are_refused(root: Path, tmp_path: Path) -> None:
    assert_refused(ntx("stats", "--repository", tmp_path), 10, "is not a repository")
    assert_refused(ntx("stats", "nobody", "--repository", root), 10, "nobody")
    assert_refused(ntx("stats", "db01", "--repository", root, "--json"), 2, "db01")


def test_an_empty_repository_has_no_figures_and_no_error(tmp_path: Path) -> None:
    PointStore.create(tmp_path / "repo")

    ran = ntx("stats", "--repository", tmp_path / "repo", "--json")

    assert ran.code == 0
    assert (ran.json["bytes_all"], ran.json["reduction"], ran.json["vms"]) == (0, None, [])


def test_a_closed_stdout_is_no_traceback(root: Path) -> None:
    command = [*COMMAND, "stats", "--repository", str(root)]

    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], env=environment(), capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
