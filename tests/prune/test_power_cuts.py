"""The power goes at any moment of a prune, or of a sync: what stays reads as it was captured, and the next one ends it.

A few cuts in `make test`; `make soak` sets NTX_CUT_ROUNDS and NTX_SOAK_SEED for more.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from tests.prune import dying
from tests.prune.building import History, check_everything
from tests.repository.builders import VM
from tests.support.forked import fork_server
from tests.support.power import PoweredDisk

ROUNDS = int(os.environ.get("NTX_CUT_ROUNDS", "4"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PoweredDisk]:
    disk = PoweredDisk(tmp_path)
    yield disk
    disk.close()


def run_until(seconds: float, work: Callable[..., object], *arguments: Path, lose: Callable[[], None]) -> float:
    """Run something in a process of its own; the power goes after a time, or at its end; return how long it ran."""
    process = fork_server().Process(target=work, args=arguments)
    began_s = time.monotonic()
    process.start()
    process.join(seconds)
    took_s = time.monotonic() - began_s
    lose()
    process.join()
    return took_s


def test_no_cut_of_a_prune_loses_anything(history: History, disk: PoweredDisk, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    points = [history.capture() for _ in range(5)]
    history.forget([points[index].id for index in (0, 1, 3)])
    repository = disk.path / "repo"
    longest_s = 20.0
    for _ in range(ROUNDS):
        shutil.rmtree(repository, ignore_errors=True)
        shutil.copytree(history.store.path, repository)
        disk.sync()

        took_s = run_until(chance.uniform(0, longest_s), dying.prune_at, repository, lose=disk.lose)

        longest_s = min(longest_s, took_s * 1.1)
        disk.come_back()
        cut = dataclasses.replace(history, store=PointStore.open(repository))
        there = {point.id for point in cut.store.points(VM, with_forgotten=True)}
        assert {points[2].id, points[4].id} <= there
        check_everything(cut, tmp_path, with_forgotten=True, is_over=False, by_us=True)
        dying.prune_at(repository)
        check_everything(cut, tmp_path, points=2, with_forgotten=True)


def test_no_cut_of_a_sync_leaves_a_point_that_is_not_whole(history: History, disk: PoweredDisk, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for _ in range(3):
        history.capture()
    other = disk.path / "repo"
    longest_s = 20.0
    for _ in range(ROUNDS):
        shutil.rmtree(other, ignore_errors=True)
        PointStore.create(other)
        disk.sync()

        took_s = run_until(chance.uniform(0, longest_s), dying.sync_to, history.store.path, other, lose=disk.lose)

        longest_s = min(longest_s, took_s * 1.1)
        disk.come_back()
        cut = dataclasses.replace(history, store=PointStore.open(other))
        check_everything(cut, tmp_path, by_us=True)
        dying.sync_to(history.store.path, other)
        check_everything(cut, tmp_path, points=3, by_us=True)
