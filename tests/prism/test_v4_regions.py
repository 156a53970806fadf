"""v4 through the simulator: changed regions, computed on the Prism Element by token."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from ntxengine.errors import (
    CredentialsError,
    PrismAnswerError,
    PrismBusy,
)
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import HttpFault
from ntxengine.units import KIB
from tests.prism.conftest import Connect
from tests.prism.hostile import HandClock
from tests.prism.steps import freeze, rows, subject, write


def paths(sim: Simulator, part: str) -> list[str]:
    return [one.path for one in sim.requests if part in one.path]


async def test_changed_regions_go_to_the_element_with_the_token_only(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        found = await rows(prism, point)

    assert [row for row in found if not row[2]] == [(0, 64 * KIB, 0)]
    computed = [one for one in sim.requests if "compute-changed-regions" in one.path]
    assert {(one.endpoint, one.status) for one in computed} == {("element", 200)}


async def test_a_difference_is_found_page_by_page(
    sim: Simulator, config: SimConfig, connect: Connect, tmp_path: Path
) -> None:
    config.limits.regions_per_page = 1
    async with connect("v4") as prism:
        vm = await subject(prism)
        older = await freeze(prism, vm)
        write(tmp_path / "disk0.raw", 0, bytes(512))
        write(tmp_path / "disk0.raw", 128 * KIB, b"x" * 512)
        write(tmp_path / "disk0.raw", 512 * KIB, b"y" * 32 * KIB)
        newer = await freeze(prism, vm)

        found = await rows(prism, newer, older)

    assert found == [(0, 32 * KIB, 0), (128 * KIB, 32 * KIB, 0), (512 * KIB, 32 * KIB, 0)]
    assert len(paths(sim, "compute-changed-regions")) == 3


async def test_no_change_is_an_empty_page(sim: Simulator, connect: Connect) -> None:
    async with connect("v4") as prism:
        vm = await subject(prism)
        older, newer = await freeze(prism, vm), await freeze(prism, vm)

        assert await rows(prism, newer, older) == []


@pytest.mark.parametrize("last_offset", ["absent", "zero", "null"])
async def test_every_form_of_the_last_page_ends_the_walk(
    sim: Simulator, config: SimConfig, connect: Connect, last_offset: Literal["absent", "zero", "null"]
) -> None:
    config.last_offset = last_offset
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        assert len(await rows(prism, point)) >= 1


async def test_the_revision_of_the_token_is_spoken(sim: Simulator, config: SimConfig, connect: Connect) -> None:
    config.content_revision = "v4.2"
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        await rows(prism, point)

    assert all("/dataprotection/v4.2/content/" in path for path in paths(sim, "compute-changed-regions"))


async def test_a_token_that_is_refused_is_renewed_once(sim: Simulator, connect: Connect) -> None:
    sim.faults.http.append(HttpFault(path="compute-changed-regions", status=401))
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        found = await rows(prism, point)

    assert found
    assert len(paths(sim, "discover-cluster")) == 2


async def test_a_token_that_stays_refused_is_a_matter_of_credentials(sim: Simulator, connect: Connect) -> None:
    sim.faults.http.append(HttpFault(path="compute-changed-regions", status=401, count=-1))
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(CredentialsError, match="the token of cluster discovery was refused") as refused:
            await rows(prism, point)

    assert refused.value.is_of_element
    assert len(paths(sim, "compute-changed-regions")) == 2


@pytest.mark.parametrize(("path", "is_of_element"), [("compute-changed-regions", True), ("discover-cluster", False)])
async def test_an_error_says_whether_it_is_of_the_element_alone(
    sim: Simulator, connect: Connect, path: str, is_of_element: bool
) -> None:
    sim.faults.http.append(HttpFault(path=path, status=503, count=-1))
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(PrismBusy) as busy:
            await rows(prism, point)

    assert busy.value.is_of_element is is_of_element


async def test_an_old_token_is_renewed_before_it_ends(
    sim: Simulator, config: SimConfig, connect: Connect, clock: HandClock, tmp_path: Path
) -> None:
    config.limits.regions_per_page = 1
    write(tmp_path / "disk0.raw", 512 * KIB, b"y" * 512)
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))
        pages = prism.changed_regions(point.disks[0], None)
        await anext(pages)
        clock.time_s += 13 * 60 - 1
        first = len(paths(sim, "discover-cluster"))
        clock.time_s += 2
        async for _ in pages:
            pass

    assert first == 1
    assert len(paths(sim, "discover-cluster")) == 2


async def test_a_walk_that_does_not_move_on_is_refused(sim: Simulator, config: SimConfig, connect: Connect) -> None:
    config.limits.regions_per_page = 1
    sim.faults.regions = "stuck"
    async with connect("v4") as prism:
        point = await freeze(prism, await subject(prism))

        with pytest.raises(PrismAnswerError, match="no way on"):
            await rows(prism, point)
