"""A Prism that answers anything: each check ends with a finding, and none is a defect of ours."""

from __future__ import annotations

import pytest

from ntxengine.sim.faults import ANSWER_FAULTS, AnswerFault, HttpFault, ListFault
from ntxengine.sim.faults.lists import ASKED_FAULTS, FOUND_FAULTS
from tests.probe.lab import Lab

ANYTHING = (None, [], "x" * 5000, 2**70, [None], {"extId": None})
FIELDS = ("data", "data.*", "data.0", "metadata", "entities", "entities.*", "status", "data.config", "data.network")


async def assert_it_copes(lab: Lab) -> None:
    found = await lab.probe()

    defects = [line for line in found.lines if "defect" in line.result.text]
    assert defects == []
    assert len(found.lines) > 10


@pytest.mark.parametrize("family", ["v4", "v3"])
@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: str(value)[:8])
async def test_any_value_anywhere(value: object, family: str, lab: Lab) -> None:
    if family == "v3":
        lab.element()
    lab.sim.faults.answers += [AnswerFault("(?<!info)$", count=-1, field=field, value=value) for field in FIELDS]

    await assert_it_copes(lab)


@pytest.mark.parametrize("family", ["v4", "v3"])
@pytest.mark.parametrize("kind", sorted(set(ANSWER_FAULTS) - {"set", "drop"}))
async def test_any_kind_of_answer(kind: str, family: str, lab: Lab) -> None:
    if family == "v3":
        lab.element()
    lab.sim.faults.answers.append(AnswerFault("", count=-1, kind=kind))

    await assert_it_copes(lab)


@pytest.mark.parametrize("kind", sorted(ASKED_FAULTS | FOUND_FAULTS))
async def test_any_kind_of_list(kind: str, lab: Lab) -> None:
    lab.sim.faults.lists.append(ListFault("", count=-1, kind=kind))

    await assert_it_copes(lab)


@pytest.mark.parametrize(
    ("status", "plain"),
    [(200, True), (204, False), (301, False), (404, False), (409, True), (500, True), (501, False)],
)  # fmt: skip
async def test_any_status_from_the_third_answer_on(status: int, plain: bool, lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault("", status=status, plain=plain, count=-1, after=2))

    await assert_it_copes(lab)
