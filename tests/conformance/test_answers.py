"""Whatever an answer of a cluster is, our client makes a value of it or raises a PrismError of one line.

The answers come from the simulator; what may stand in them comes from the models of Nutanix's SDKs.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ntxengine.prism.models import Vm
from tests.conformance.exchanges import VM, Exchange, Walk
from tests.conformance.mutations import STYLES, VALUES, changed, filled, paths
from tests.conformance.replay import REFUSALS, Player

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("NTX_SOAK_ROUNDS", "40"))
"""Changes that are tried of each step; the reading of a recorded answer has up to two thousand."""

READS = ["vms", "vm", "recovery_points", "recovery_point", "regions", "difference", "attached"]
GROUP_READS = ["groups", "group_regions", "group_difference"]
VOLUME_READS = ["data_services", "volume_groups"]
VOLUMES = [*VOLUME_READS, "make_group", "admit", "remove_group"]
STEPS = [
    *READS, *GROUP_READS, *VOLUMES, "create", "attach", "detach", "delete", "freeze", "attach_group", "detach_group",
]  # fmt: skip


def once_each(walk: Walk, step: str) -> list[Exchange]:
    """Return the exchanges of a step, one for each call."""
    return list({(one.method, one.path): one for one in walk.steps[step]}.values())


@pytest.fixture(scope="module", params=["v4", "v3"])
def player(request: pytest.FixtureRequest) -> Iterator[Player]:
    with Player(request.getfixturevalue(f"{request.param}_walk")) as found:
        yield found


@pytest.fixture(scope="module")
def central(v4_walk: Walk) -> Iterator[Player]:
    with Player(v4_walk) as found:
        yield found


@pytest.mark.parametrize("step", STEPS)
def test_the_replay_of_a_step_gives_what_the_step_gave(player: Player, step: str) -> None:
    assert repr(player.step(step)) == repr(player.walk.held.done[step])


@pytest.mark.parametrize("step", STEPS)
def test_anything_in_any_place_is_a_value_or_a_refusal(player: Player, step: str) -> None:
    cases = [
        (exchange, path, value)
        for exchange in once_each(player.walk, step)
        for path in paths(exchange.answer)
        for value in VALUES.values()
    ]
    if len(cases) > ROUNDS:
        cases = random.Random(step).sample(cases, ROUNDS)

    for exchange, path, value in cases:
        result = player.step(step, exchange, changed(exchange.answer, path, value))

        assert not isinstance(result, REFUSALS) or str(result).isprintable()


@pytest.mark.parametrize("step", [*READS, *VOLUME_READS])
@pytest.mark.parametrize("style", sorted(STYLES))
def test_another_way_to_write_the_same_answer_is_the_same(player: Player, step: str, style: str) -> None:
    for exchange in once_each(player.walk, step):
        result = player.step(step, exchange, STYLES[style](exchange.answer))

        assert _read(result) == _read(player.walk.held.done[step])


def _read(result: Any) -> str:
    """Return what was read, without the whole entity, which is kept as it came."""
    found = result if isinstance(result, list) else [result]
    return repr([replace(vm, config={}) if isinstance(vm, Vm) else vm for vm in found])


def nulls(player: Player, step: str, *, but: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each place and what a step gives with null there; not the places that are called `but`."""
    for exchange in once_each(player.walk, step):
        for path in paths(exchange.answer):
            if but == "" or re.fullmatch(but, str(path[-1])) is None:
                place = f"{exchange.path}: {'.'.join(map(str, path))}"
                yield place, player.step(step, exchange, changed(exchange.answer, path, None))


def test_null_in_any_one_place_never_makes_a_vm_without_its_disks(player: Player) -> None:
    """A list that is null is an empty list: so Prism writes it.  A capture of a VM without disks is refused."""
    for place, vm in nulls(player, "vm", but="disks|disk_list|vm_disk_info"):
        assert isinstance(vm, REFUSALS) or len(vm.disks) >= 2, place


def test_null_in_any_one_place_never_makes_a_new_point_without_its_disks(player: Player) -> None:
    for place, point in nulls(player, "create"):
        assert isinstance(point, REFUSALS) or len(point.disks) == 2, place


def test_null_in_any_one_place_never_makes_a_frozen_group_without_its_disks(central: Player) -> None:
    """Null instead of the disks of a group is said to be that: the group is left out with a warning."""
    for place, points in nulls(central, "freeze"):
        is_untold = "volumeGroupRecoveryPoints" in place and place.endswith("diskRecoveryPoints")
        assert isinstance(points, REFUSALS) or len(points[0].disks) == (2 if is_untold else 3), place


def test_null_in_any_one_place_never_makes_a_group_without_its_disks(central: Player) -> None:
    """A list that is null is an empty list, and a group that has no disk is left out with that reason."""
    for place, groups in nulls(central, "groups", but="data"):
        assert isinstance(groups, REFUSALS) or groups[0].obstacle or len(groups[0].disks) == 1, place


def test_null_in_any_one_place_never_makes_a_volume_group_without_its_target(player: Player) -> None:
    for place, group in nulls(player, "make_group"):
        assert isinstance(group, REFUSALS) or (group.target, group.lun) == (
            player.walk.held.done["make_group"].target,
            1,
        ), place


def test_null_in_any_one_place_never_makes_another_disk_of_an_old_point(player: Player) -> None:
    """An old point may lack a disk that the VM has now: there is nothing to compare it with, so it is read whole."""
    honest = set(player.walk.held.done["recovery_point"].disks)

    for place, point in nulls(player, "recovery_point"):
        assert isinstance(point, REFUSALS) or set(point.disks) <= honest, place


def test_null_in_any_one_place_never_loses_a_changed_region(player: Player) -> None:
    """A list that is null, beside the size of the disk, is an empty list: nothing changed."""
    honest = _covered(player.walk.held.done["difference"])

    assert honest
    for place, pages in nulls(player, "difference", but="data|region_list"):
        assert isinstance(pages, REFUSALS) or _covered(pages) >= honest, place


def _covered(pages: Any) -> set[int]:
    rows = [row for page in pages for row in page.regions]
    return {sector for row in rows for sector in range(int(row[0]) // 512, (int(row[0]) + int(row[1])) // 512)}


# -- whole answers of the SDKs' models


@pytest.fixture(scope="module")
def whole(judged: dict[str, Any], v4_walk: Walk) -> list[tuple[str, Exchange, Any]]:
    """Every answer of v4 with every field that its model has: step, exchange, answer."""
    kinds = {(seen["method"], seen["path"]): verdict["operation"] for seen, verdict in judged["seen"]}
    return [
        (step, one, filled(one.answer, judged["answers"][kinds[one.method, one.path]], judged["models"]))
        for step in STEPS
        for one in once_each(v4_walk, step)
        if (one.method, one.path) in kinds
    ]


def test_an_answer_with_every_field_of_its_model_is_read(
    whole: list[tuple[str, Exchange, Any]], central: Player
) -> None:
    for step, exchange, answer in whole:
        result = central.step(step, exchange, answer)

        assert step not in (*READS, *VOLUME_READS) or not isinstance(result, REFUSALS), (exchange.path, result)


@settings(max_examples=100, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_many_changes_at_once_are_a_value_or_a_refusal(
    whole: list[tuple[str, Exchange, Any]], central: Player, data: st.DataObject
) -> None:
    step, exchange, answer = data.draw(st.sampled_from(whole))
    places = list(paths(answer))
    for _ in range(data.draw(st.integers(1, 8))):
        path, kind = data.draw(st.sampled_from(places)), data.draw(st.sampled_from(sorted(VALUES)))
        answer = changed(answer, path, VALUES[kind])

    result = central.step(step, exchange, answer)

    assert not isinstance(result, REFUSALS) or str(result).isprintable()


def test_the_vm_of_the_recording_is_a_full_one(player: Player) -> None:
    assert (player.walk.held.vm.name, len(player.walk.held.vm.disks)) == (VM, 2)
