"""Every fault of the simulator can be switched on by its name, from YAML too, and changes what is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import OptionsError
from ntxengine.sim.config import SimConfig
from ntxengine.sim.faults import (
    ANSWER_FAULTS,
    HIDING,
    REGION_FAULTS,
    TASK_FAULTS,
    AnswerFault,
    HiddenRegion,
    tasks,
)
from ntxengine.sim.faults.answers import NO_BODY
from ntxengine.sim.faults.hidden import hide
from ntxengine.sim.faults.lists import ASKED_FAULTS, FOUND_FAULTS, ListFault, Listing, ListRefused, change
from ntxengine.sim.faults.regions import spoil
from ntxengine.sim.pages import Page, Window

PAGE = Page([(0, 512, False), (4096, 1024, True), (65_536, 65_536, False)], None, 1 << 20)


def body() -> dict[str, Any]:
    flags = [{"name": "hasError", "value": False}, {"name": "isTruncated", "value": False}]
    return {"data": [{"extId": "a", "name": "x"}, {"extId": "b", "name": "y"}], "metadata": {"flags": flags}}


@pytest.mark.parametrize("kind", sorted(ANSWER_FAULTS))
def test_every_kind_of_answer_fault_changes_an_answer(kind: str) -> None:
    changed = AnswerFault(kind=kind, field="data.*.name").change(body())

    assert changed != body()


@pytest.mark.parametrize("kind", sorted(REGION_FAULTS))
def test_every_kind_of_region_fault_changes_a_page(kind: str) -> None:
    assert spoil(PAGE, Window(), kind) != PAGE
    assert PAGE.regions[0] == (0, 512, False)


@pytest.mark.parametrize("kind", sorted(TASK_FAULTS))
def test_every_kind_of_task_fault_changes_a_task(kind: str) -> None:
    task = {"status": "RUNNING", "completionDetails": [{"name": "a", "value": "b"}], "entitiesAffected": []}

    assert tasks.spoil(task, kind) != task
    assert tasks.spoil(task, "") == task


def test_a_field_is_set_or_dropped_wherever_its_path_leads() -> None:
    assert AnswerFault(field="data.*.name").change(body())["data"][1] == {"extId": "b", "name": None}
    assert AnswerFault(kind="drop", field="data.0.name").change(body())["data"][0] == {"extId": "a"}
    assert AnswerFault(kind="drop", field="data.*").change(body())["data"] == []
    assert AnswerFault(field="nobody.at.home").change(body()) == body()
    assert AnswerFault(kind="empty_body").change(body()) is NO_BODY


def test_every_fault_can_be_written_in_yaml(tmp_path: Path) -> None:
    lines = [f"    - {{path: vms, kind: {kind}, field: data, value: [1, {{a: null}}]}}" for kind in ANSWER_FAULTS]
    for name in REGION_FAULTS:
        (tmp_path / "sim.yaml").write_text("\n".join(["faults:", f"  regions: {name}", "  answers:", *lines]))

        faults = SimConfig.from_yaml(tmp_path / "sim.yaml").faults

        assert faults.regions == name
        assert [fault.kind for fault in faults.answers] == list(ANSWER_FAULTS)
        assert faults.answers[0].value == [1, {"a": None}]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("dropped", [(0, 512, False), (65_536, 4096, False), (73_728, 57_344, False)]),
        (
            "zeroed",
            [(0, 512, False), (4096, 1024, True), (65_536, 4096, False), (69_632, 4096, True), (73_728, 57_344, False)],
        ),
    ],
)
def test_a_hidden_place_is_cut_out_of_the_regions_or_called_zero(
    kind: str, expected: list[tuple[int, int, bool]]
) -> None:
    places = [HiddenRegion(69_632, 4096, kind), HiddenRegion(1024, 4096, kind)]

    page = hide(PAGE, places, ("a", "b"), "changed")

    assert set(HIDING) == {"dropped", "zeroed"}
    assert page.regions == expected


def test_a_hidden_place_may_be_of_one_disk_and_one_question() -> None:
    place = HiddenRegion(0, 1 << 20, disk="a", question="allocated")

    assert hide(PAGE, [place], ("b",), "allocated") == PAGE
    assert hide(PAGE, [place], ("a",), "changed") == PAGE
    assert hide(PAGE, [place], ("a",), "allocated").regions == []


def test_a_hidden_place_can_be_written_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "sim.yaml").write_text("faults: {hidden: [{offset: 1MiB, length: 64KiB, kind: zeroed}]}")

    faults = SimConfig.from_yaml(tmp_path / "sim.yaml").faults

    assert faults.hidden == [HiddenRegion(1 << 20, 65_536, "zeroed")]


@pytest.mark.parametrize(
    "text",
    [
        "{hidden: [{offset: 0, length: 1, kind: bogus}]}",
        "{regions: bogus}",
        "{tasks: bogus}",
        "{answers: [{kind: bogus}]}",
    ],
)
def test_a_fault_that_nobody_knows_is_refused_with_those_that_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "sim.yaml").write_text(f"faults: {text}")

    with pytest.raises(OptionsError, match=r"bogus.* known are"):
        SimConfig.from_yaml(tmp_path / "sim.yaml").check()


@pytest.mark.parametrize("kind", sorted(ASKED_FAULTS | FOUND_FAULTS))
def test_every_kind_of_list_fault_changes_a_list(kind: str) -> None:
    def made() -> Listing:
        return Listing("name eq 'x'", "name", 100, [{"extId": "a", "name": "x"}, {"extId": "b", "name": "y"}], 2)

    listing = made()

    if kind.startswith("refuse"):
        with pytest.raises(ListRefused):
            change(ASKED_FAULTS, [ListFault(kind=kind)], listing)
        return
    change(ASKED_FAULTS, [ListFault(kind=kind)], listing)
    change(FOUND_FAULTS, [ListFault(kind=kind)], listing)

    assert listing != made()


def test_a_list_fault_and_an_odd_vm_are_known_by_name(tmp_path: Path) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text("vms: [{name: x, odd: [no_size]}]\nfaults: {lists: [{path: /vms, kind: page_cap, value: 50}]}")

    config = SimConfig.from_yaml(path)
    config.check()

    assert (config.vms[0].odd, config.faults.lists[0].value) == (["no_size"], 50)
    config.faults.lists[0].kind = "nonsense"
    with pytest.raises(OptionsError, match=r"faults\.lists: kind 'nonsense' is not known"):
        config.check()
    config.faults.lists.clear()
    config.vms[0].odd = ["nonsense"]
    with pytest.raises(OptionsError, match="odd VM: 'nonsense' is not known"):
        config.check()
