"""What a failed call has made is found by its name, and all of it is removed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ntxengine.errors import PrismBusy, PrismError, PrismStatusError
from ntxengine.prism.tasks import remove_each, those_named


@dataclass(frozen=True)
class Thing:
    id: str
    name: str | None


async def test_one_that_cannot_be_removed_spares_no_other() -> None:
    asked: list[str] = []

    async def remove(one: str) -> None:
        asked.append(one)
        if one != "b":
            raise PrismError(f"{one} stays")

    with pytest.raises(PrismError, match="a stays"):
        await remove_each(["a", "b", "c"], remove)

    assert asked == ["a", "b", "c"]


async def test_only_what_has_the_name_and_can_be_seen_is_taken() -> None:
    asked: list[str] = []

    async def state(one: str) -> Thing | None:
        asked.append(one)
        if one == "forbidden":
            raise PrismStatusError("no", status=403)
        return {"ours": Thing(one, "n"), "theirs": Thing(one, "m"), "nameless": Thing(one, None)}.get(one)

    found = await those_named("n", ["theirs", "ours", "forbidden", "gone", "nameless", "ours"], state)

    assert found == [Thing("ours", "n")]
    assert asked == ["theirs", "ours", "forbidden", "gone", "nameless"]


@pytest.mark.parametrize("error", [PrismBusy("later"), PrismStatusError("later", status=503)])
async def test_a_failure_that_may_pass_is_not_taken_for_absence(error: PrismError) -> None:
    async def state(_one: str) -> Thing | None:
        raise error

    with pytest.raises(PrismError, match="later"):
        await those_named("n", ["a"], state)
