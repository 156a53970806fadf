"""Points that are forgotten and pruned: what stays reads as it was captured, every disk of it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import pytest

from ntxengine.prune import PruneOptions, PruneReport, prune
from ntxengine.repository import Point, Repository, next_image_name
from ntxengine.repository.reading import hold
from ntxengine.repository.store import PointStore
from tests.prune.building import History, check_everything
from tests.repository.builders import VM, Clock

ROUNDS = int(os.environ.get("NTX_PRUNE_ROUNDS", "10"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "11"))
ALWAYS = PruneOptions(max_waste=0)


def pruned(history: History, forgotten: Collection[str], *, options: PruneOptions = ALWAYS) -> PruneReport:
    history.forget(forgotten)
    return asyncio.run(prune(Repository(history.store), [VM], options=options))


def ids(points: Collection[Point]) -> list[str]:
    return [point.id for point in points]


def test_the_first_points_are_taken_over_by_the_next(history: History, tmp_path: Path) -> None:
    first, second, third, fourth = [history.capture() for _ in range(4)]

    report = pruned(history, [first.id, second.id])

    assert report.vms[0].problems == []
    assert ids(report.vms[0].removed) == [second.id, first.id]
    assert report.bytes_freed > 0
    now = history.store.points(VM)
    assert ids(now) == [third.id, fourth.id]
    assert (now[0].kind, now[0].parent_id) == ("full", None)
    check_everything(history, tmp_path, points=2)


def test_what_is_taken_over_in_the_middle_stays_on_top_of_what_is_below(history: History, tmp_path: Path) -> None:
    points = [history.capture() for _ in range(6)]

    report = pruned(history, [points[2].id, points[3].id])

    assert report.vms[0].problems == []
    now = history.store.points(VM)
    assert ids(now) == ids([*points[:2], *points[4:]])
    assert now[2].parent_id == points[1].id
    check_everything(history, tmp_path, points=4)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_any_points_may_be_forgotten_again_and_again(tmp_path: Path, number: int) -> None:
    chance = random.Random(SEED + number)
    clock = Clock()
    history = History(PointStore.create(tmp_path / "repo", clock=clock), clock, chance)
    for _ in range(6):
        history.capture(full=chance.random() < 0.1)
    for _ in range(2):
        there = ids(history.store.points(VM))
        forgotten = {each for each in there[:-1] if chance.random() < 0.4}

        report = pruned(history, forgotten)

        assert report.vms[0].problems == []
        now = ids(history.store.points(VM))
        assert set(there) - forgotten <= set(now)
        check_everything(history, tmp_path, by_us=True)
        for _ in range(2):
            history.capture()
    check_everything(history, tmp_path)


def test_an_image_that_is_damaged_keeps_nothing_else_from_being_pruned(history: History, tmp_path: Path) -> None:
    points = [history.capture() for _ in range(4)]
    damaged = points[2].image_path(points[2].disks[0])
    copy = damaged.read_bytes()
    damaged.unlink()

    report = pruned(history, [points[0].id])

    assert report.vms[0].problems == []
    assert [each.merge.point.id for each in report.vms[0].merged] == [points[1].id]
    damaged.write_bytes(copy)
    assert pruned(history, []).vms[0].problems == []
    check_everything(history, tmp_path, points=3, with_forgotten=True)


def test_what_a_killed_merge_left_is_in_the_way_of_no_other(history: History, tmp_path: Path) -> None:
    points = [history.capture() for _ in range(3)]
    for disk in points[1].disks:
        (points[1].path / next_image_name(disk)).write_bytes(b"killed")
    for name in (".point.json.12345678.new", ".SHA256SUMS.12345678.new"):
        (points[1].path / name).touch()

    with closing(hold([points[1]])):
        report = pruned(history, [points[0].id])

    assert report.vms[0].problems == []
    assert [each.problem for each in report.vms[0].merged] == [""]
    assert pruned(history, []).vms[0].problems == []
    check_everything(history, tmp_path, points=2, with_forgotten=True)
    assert list(points[1].path.glob(".*")) == []
