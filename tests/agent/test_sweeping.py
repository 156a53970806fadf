"""Removing what was left, where that does not work at first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ntxengine.agent import sweeping
from ntxengine.agent.capturing import CaptureJob
from ntxengine.agent.connection import Connection
from ntxengine.agent.state import State
from ntxengine.agent.work import Work
from ntxengine.errors import CredentialsError, NotFoundError, TargetError
from ntxengine.prism import Cluster
from tests.agent.virtual import VirtualLoop, in_virtual_time

PATHS = tuple(Path(f"/backups/{number}") for number in range(10))


async def nowhere() -> Cluster:
    raise AssertionError("nobody asks")


class Sweeps:
    """Takes the place of a sweep: `errors` of a repository are raised one after another."""

    def __init__(self, **errors: list[Exception]) -> None:
        self.errors = errors
        self.tried: list[tuple[float, str, Connection]] = []

    async def __call__(self, connection: Connection, path: Path, job: Work) -> None:
        self.tried.append((asyncio.get_running_loop().time() - 1000, path.name, connection))
        for name in (path.name, "all"):
            if queue := self.errors.get(name):
                raise queue.pop(0)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


def swept(sweeps: Sweeps, state: State, *connections: Connection, paths: tuple[Path, ...] = PATHS) -> None:
    """Sweep until all is done; each pass has the next connection, as after a reload."""
    left = list(connections)

    def current() -> tuple[Connection, list[Work]]:
        return left.pop(0) if len(left) > 1 else left[0], [CaptureJob(path) for path in paths]

    async def main(loop: VirtualLoop) -> None:
        await sweeping.sweep_after_start(current, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeping, "_sweep", sweeps)
        in_virtual_time(main)


def test_a_refused_account_costs_one_login_a_try_and_the_configuration_may_change_meanwhile(state: State) -> None:
    old, new = Connection(nowhere), Connection(nowhere)
    sweeps = Sweeps(all=[CredentialsError("no"), CredentialsError("no")])

    swept(sweeps, state, old, old, new)

    assert [(when, connection) for when, _, connection in sweeps.tried[:3]] == [(0, old), (600, old), (1800, new)]
    assert [name for _, name, _ in sweeps.tried[2:]] == [path.name for path in PATHS]


@pytest.mark.parametrize("error", [TargetError("full"), OSError(116, "Stale file handle")])
def test_what_fails_for_one_repository_keeps_no_other_from_being_swept(state: State, error: Exception) -> None:
    sweeps = Sweeps(**{"0": [error]})

    swept(sweeps, state, Connection(nowhere))

    assert [name for _, name, _ in sweeps.tried] == [*(path.name for path in PATHS), "0"]


def test_a_repository_that_is_not_mounted_is_swept_when_it_is_back(state: State) -> None:
    state.know_repository(str(PATHS[0]), "id")
    sweeps = Sweeps(**{name: [NotFoundError("none")] for name in ("0", "1")})

    swept(sweeps, state, Connection(nowhere), paths=PATHS[:2])

    assert [name for _, name, _ in sweeps.tried] == ["0", "1", "0"]
