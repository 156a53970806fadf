"""What commands open of a VM with more and more points, each on top of the one before: for eight more points as much as
for the eight before them, and not more and more.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ntxengine.check import DataOptions, check_repository
from ntxengine.images.choice import ImageOptions
from ntxengine.prune import PruneOptions, prune
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import restore
from ntxengine.verify import Sampling, verify_points
from tests.prune.building import History
from tests.repository.builders import VM, Clock
from tests.support.opened import opened_below

STEP = 8


async def points(repository: Repository) -> None:
    health = await repository.health()
    assert not any(map(health.problem, health.points))


async def verify(repository: Repository) -> None:
    chosen = [(point, ()) for point in await repository.points(VM)]
    assert all(each.is_right for each in await verify_points(repository, chosen, parallel=1))


async def sample(repository: Repository) -> None:
    chosen = [(point, ()) for point in await repository.points(VM)]
    sampling = Sampling(share=0.1)
    assert all(each.is_right for each in await verify_points(repository, chosen, parallel=1, sampling=sampling))


async def restore_newest(repository: Repository) -> None:
    newest = await repository.newest(VM)
    assert newest is not None
    report = await restore(repository, newest, repository.path.parent / f"restored {newest.id}")
    assert report.is_whole


async def check(repository: Repository) -> None:
    assert (await check_repository(repository.path)).is_right


async def check_data(repository: Repository) -> None:
    assert (await check_repository(repository.path, data=DataOptions(parallel=1))).is_right


async def plan_of_prune(repository: Repository) -> None:
    every = await repository.points(VM)
    besides = {VM: {point.id for point in every[1:-1:2]}}
    options = PruneOptions(max_waste=0)
    (vm,) = (await prune(repository, [VM], options=options, dry_run=True, besides=besides)).vms
    assert (vm.problems, len(vm.merged)) == ([], len(besides[VM]))


COMMANDS: tuple[Callable[[Repository], Awaitable[None]], ...] = (
    points,
    verify,
    sample,
    restore_newest,
    check,
    check_data,
    plan_of_prune,
)
THROUGH_WHOLE_CHAINS = {"sample": (".qcow2",)}
"""What is sampled of a point may lie in any image of its chain: see sampling.py."""

Opened = dict[str, list[Counter[str]]]
"""By command: how many files of each kind it opened when there were 8, 16 and 24 points."""


def kind_of(path: Path) -> str:
    if path.suffix in (".qcow2", ".manifest"):
        return path.suffix
    return "half-written" if path.suffix == ".new" else path.name


async def run(command: Callable[[Repository], Awaitable[None]], repository: Repository) -> None:
    await command(repository)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    clock = Clock()
    store = PointStore.create(tmp_path_factory.mktemp("many") / "repo", clock=clock)
    images = (ImageOptions(), ImageOptions(zstd_level=1))
    history = History(store, clock, random.Random(7), resizes=0, images=images)
    found: Opened = {command.__name__: [] for command in COMMANDS}
    for _ in range(3):
        for _ in range(STEP):
            history.capture()
        for command in COMMANDS:
            with opened_below(store.path) as files:
                asyncio.run(run(command, Repository(store)))
            found[command.__name__].append(Counter(map(kind_of, files)))
    return found


@pytest.mark.parametrize("command", [command.__name__ for command in COMMANDS])
def test_more_points_cost_as_much_each_as_those_before(opened: Opened, command: str) -> None:
    few, more, many = opened[command]

    for kind in {*few, *more, *many}.difference(THROUGH_WHOLE_CHAINS.get(command, ())):
        earlier, later = more[kind] - few[kind], many[kind] - more[kind]
        assert later <= 1.2 * earlier + 2, kind  # of the square it would be 1.7
