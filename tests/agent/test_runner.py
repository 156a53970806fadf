"""Whose repository is written into: the one that was there before, and no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ntxengine.agent.connection import Connection
from ntxengine.agent.records import BEING_MADE
from ntxengine.agent.repositories import Repositories
from ntxengine.agent.retries import RepositoryUnusable
from ntxengine.agent.state import State
from ntxengine.errors import CredentialsError
from ntxengine.prism import Cluster
from ntxengine.repository import Repository


async def nowhere() -> Cluster:
    raise AssertionError("nobody asks")


async def test_a_repository_in_the_place_of_another_is_not_written_into(tmp_path: Path) -> None:
    state, path = State(tmp_path / "state"), tmp_path / "backups"
    repositories = Repositories(state)
    made = await repositories.open(path)
    again = await repositories.open(path)
    path.rename(tmp_path / "moved")
    other = await Repository.open(path, create=True)

    with pytest.raises(RepositoryUnusable, match=f"holds repository {other.id}, and {made.id} was there before"):
        await repositories.open(path)

    assert again.id == made.id == state.repository_id(str(path))


async def test_runs_that_begin_together_make_one_repository(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    repositories = Repositories(state)

    made = await asyncio.gather(*(repositories.open(tmp_path / "backups") for _ in range(8)))

    assert len({each.id for each in made}) == 1


async def test_an_agent_that_was_killed_while_it_made_a_repository_makes_it_the_next_time(tmp_path: Path) -> None:
    state, path = State(tmp_path / "state"), tmp_path / "backups"
    path.mkdir()
    with pytest.raises(RepositoryUnusable, match="an empty folder that nothing is mounted on"):
        await Repositories(state).open(path)
    state.know_repository(str(path), BEING_MADE)
    state.close()
    state = State(tmp_path / "state")

    made = await Repositories(state).open(path)

    assert state.repository_id(str(path)) == made.id
    state.close()


async def test_a_connection_that_was_refused_is_opened_anew_and_one_that_was_not_is_kept() -> None:
    class Opened:
        async def aclose(self) -> None:
            """Nothing to close."""

    opened = 0

    async def connect() -> Cluster:
        nonlocal opened
        opened += 1
        return Opened()  # type: ignore[return-value]  # nobody asks it anything

    connection = Connection(connect)
    seen = []
    for error in (ValueError("mine"), CredentialsError("the session is over"), None):
        try:
            async with connection.use() as cluster:
                seen.append(cluster)
                if error is not None:
                    raise error
        except (ValueError, CredentialsError):
            pass

    assert seen[0] is seen[1]
    assert seen[1] is not seen[2]
    assert opened == 2
