"""`ntx` on file systems that lack something: what can be done otherwise is, and nothing that is done is thrown away."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ntxengine.repository import retention_file
from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.cli.ntx import COMMAND, Ran, assert_refused, environment, ntx
from tests.cli.test_forget import make_point
from tests.repository.builders import VM, Clock
from tests.support.filesystem import lacking

MIB = 1024**2


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EIO])
def test_a_copy_is_kept_where_its_name_cannot_be_given_by_link(code: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * MIB)

    ran = ntx("copy", source, tmp_path / "copy", "-q", env=lacking(tmp_path, {"link": code}))

    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source"]


def test_a_copy_is_kept_in_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    ran = ntx("copy", "pattern:1M", tmp_path / "copy", "-q", env=lacking(tmp_path, {"open-folder": errno.EACCES}))

    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "copy").stat().st_size == MIB


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_copy_is_kept_where_a_folder_cannot_be_synced(code: int, tmp_path: Path) -> None:
    calls = {"fsync-folder": code, "link": errno.ENOSYS, "rename-new": errno.EINVAL, "seek-data": errno.EINVAL}

    ran = ntx("copy", "pattern:1M", tmp_path / "copy", "--verify", "-q", env=lacking(tmp_path, calls))

    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "copy").stat().st_size == MIB


POOR = {
    "fsync-folder": errno.EINVAL,
    "link": errno.ENOSYS,
    "rename-new": errno.EINVAL,
    "rename-over": errno.EEXIST,
    "chmod": errno.EPERM,
    "flock": errno.ENOSYS,
    "seek-data": errno.EINVAL,
    "tmpfile": errno.EOPNOTSUPP,
    "map-shared": errno.ENODEV,
}
"""All that can be done otherwise, at once."""

NO_LOCKS = {"flock": errno.ENOLCK, "lock": errno.ENOLCK}

PATIENT = """
from ntxengine.repository import catalog
catalog.BUSY_TIMEOUT_S = 1e6
from ntxengine.cli.main import main
main()
"""
"""An `ntx` that would not end if it waited for a lock that nobody has."""


class Hand:
    """Types commands against one cluster, with all files below a folder on such a file system."""

    def __init__(self, cluster: Simulator, folder: Path, lacks: dict[str, int]) -> None:
        self.repository = folder / "repository"
        self.env = {**cluster.env, "NTX_REPOSITORY": str(self.repository), **lacking(folder, lacks)}

    def ntx(self, *arguments: str | Path) -> Ran:
        return ntx(*arguments, env=self.env)

    def good(self, *arguments: str | Path) -> Ran:
        ran = self.ntx(*arguments)
        assert ran.code == 0, ran.err
        return ran


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mount").mkdir()
    return tmp_path / "mount"


def test_the_main_job_works_on_a_poor_file_system(cluster: Simulator, folder: Path) -> None:
    hand = Hand(cluster, folder, POOR)

    captured = [hand.good("capture", "demo") for _ in range(2)]
    verified = hand.good("verify", "--all")
    for _ in range(2):
        hand.good("restore", "demo", folder / "out", "--overwrite", "--verify")
    image = hand.good("restore", "demo", folder / "images", "--format", "qcow2")

    for ran in (*captured, image):
        assert ran.err.count("this file system keeps no modes") == 1, ran.err
    assert verified.err.count("catalog") <= 1
    assert len(hand.good("points", "--json").json["points"]) == 2
    assert hand.good("sweep", "--json").json["problems"] == []
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["scsi.0.raw", "scsi.1.raw", "vm.json"]
    assert list(folder.glob("**/*unfinished*")) == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_any_locks_a_capture_is_refused_before_its_work(cluster: Simulator, folder: Path, code: int) -> None:
    hand = Hand(cluster, folder, {"flock": code, "lock": code})

    before = len(cluster.world.state.points)

    refused = hand.ntx("capture", "demo")

    assert_refused(refused, 1, ".lock: locking failed", "this file system has no locks", "mount it with locks")
    assert len(cluster.world.state.points) == before
    assert list(hand.repository.glob("*/.unfinished-*")) == []


def test_what_was_captured_elsewhere_can_be_read_without_locks(cluster: Simulator, folder: Path) -> None:
    Hand(cluster, folder, {}).good("capture", "demo")
    env = environment(Hand(cluster, folder, NO_LOCKS).env)

    def told(*arguments: str | Path) -> str:
        command = [sys.executable, "-c", PATIENT, *map(str, arguments)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    points = json.loads(told("points", "--json"))["points"]
    told("verify", "--all")
    told("restore", "demo", folder / "out", "--verify")

    assert len(points) == 1
    assert (folder / "out" / "scsi.1.raw").exists()


@pytest.fixture
def points(folder: Path) -> list[str]:
    """The ids of three points, of which the first is forgotten, in `folder`/repository."""
    store, clock = PointStore.create(folder / "repository"), Clock()
    made = []
    for number in range(3):
        made.append(make_point(store, clock, number).id)
        clock.advance(3600)
    retention_file.change(store.path / VM, lambda said: said.forget(made[:1], clock.now))
    return made


def kept_with(folder: Path, lacks: dict[str, int], *arguments: str | Path) -> Ran:
    return ntx(*arguments, env={"NTX_REPOSITORY": str(folder / "repository"), **lacking(folder, lacks)})


def test_without_any_locks_nothing_is_forgotten_or_removed_and_all_can_be_looked_at(
    folder: Path, points: list[str]
) -> None:
    before = sorted(folder.rglob("*/disk-*"))
    changing: list[tuple[str | Path, ...]] = [
        ("forget", points[1]),
        ("forget", "--all", "--keep-last", "1", "--prune"),
        ("tag", points[1], "x"),
        ("hold", points[1]),
        ("prune", "--all", "--max-waste", "0%"),
        ("sync", folder / "other"),
    ]
    looking = [("check", "--read-data", "all"), ("repair", "-n"), ("stats",), ("diff", points[1], points[2])]

    for command in changing:
        assert_refused(kept_with(folder, NO_LOCKS, *command), 1, "locking failed", "this file system has no locks")
    for command in looking:
        assert kept_with(folder, NO_LOCKS, *command).code == 0

    assert sorted(folder.rglob("*/disk-*")) == before


@pytest.mark.parametrize("lacks", ["flock", "lock"])
def test_locks_of_one_kind_are_enough_to_keep_a_repository(folder: Path, points: list[str], lacks: str) -> None:
    def good(*arguments: str | Path) -> None:
        ran = kept_with(folder, {lacks: errno.ENOLCK}, *arguments)
        assert ran.code == 0, ran.err

    good("tag", points[2], "x")
    good("forget", points[1], "--prune", "--max-waste", "0%")
    good("sync", folder / "other")
    good("verify", "--all")

    assert [point.id for point in PointStore.open(folder / "repository").points(VM, with_forgotten=True)] == points[2:]
    assert [point.id for point in PointStore.open(folder / "other").points(VM)] == points[2:]


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.ENOSYS])
def test_where_files_cannot_be_synced_a_capture_is_refused_before_its_work(
    cluster: Simulator, folder: Path, code: int, is_new: bool
) -> None:
    if not is_new:
        PointStore.create(folder / "repository")
    hand = Hand(cluster, folder, {"fsync": code})
    before = len(cluster.world.state.points)

    refused = hand.ntx("capture", "demo")

    assert_refused(refused, 1, f"fsync: {os.strerror(code)}", "put it on another file system")
    assert len(cluster.world.state.points) == before
    assert list(hand.repository.glob("*/.unfinished-*")) == []


def test_a_limit_of_file_sizes_is_said(cluster: Simulator, folder: Path) -> None:
    hand = Hand(cluster, folder, {})
    limit = 1 << 30

    done = subprocess.run(
        [*COMMAND, "capture", "demo"],
        env=environment(hand.env),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    assert "a file cannot have 4 GiB here" in done.stderr
