"""What is planned for points, told from what they say alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ntxengine.prune.plan import Plan, plan
from ntxengine.repository import Point
from tests.prune.building import History


def line_of(point: Point, parents: Mapping[str, str | None]) -> list[Point]:
    """Return points like this one, by their ids, each on top of another or of nothing."""
    return [replace(point, id=name, parent_id=parent) for name, parent in parents.items()]


def shown(planned: Plan) -> list[tuple[str, list[str], str | None]]:
    return [
        (each.point.id, [below.id for below in each.below], each.onto.id if each.onto else None)
        for each in planned.merges
    ]


@pytest.fixture
def point(history: History) -> Point:
    return history.capture()


def test_a_point_takes_over_what_is_forgotten_down_to_the_next_that_stays(point: Point) -> None:
    points = line_of(point, {"a": None, "b": "a", "c": "b", "d": "c", "e": "d"})

    planned = plan(points, {"b", "c"}, set())

    assert shown(planned) == [("d", ["c", "b"], "a")]
    assert planned.shares == {"b": 1, "c": 1}
    assert [each.id for each in planned.goes] == ["b", "c"]


def test_what_nothing_that_stays_is_on_top_of_just_goes(point: Point) -> None:
    points = line_of(point, {"a": None, "b": "a", "c": None, "d": "c", "e": "d"})

    planned = plan(points, {"a", "b", "e"}, set())

    assert planned.merges == ()
    assert [each.id for each in planned.removable] == ["a", "b", "e"]


def test_points_that_share_what_is_below_share_what_that_frees(point: Point) -> None:
    points = line_of(point, {"a": None, "b": "a", "c": "b", "d": "b"})

    planned = plan(points, {"a", "b"}, set())

    assert shown(planned) == [("c", ["b", "a"], None), ("d", ["b", "a"], None)]
    assert planned.shares == {"a": 0.5, "b": 0.5}


def test_what_something_unfinished_is_on_top_of_stays(point: Point) -> None:
    points = line_of(point, {"a": None, "b": "a", "c": "b", "d": "b"})

    planned = plan(points, {"a", "b"}, {"d"})

    assert shown(planned) == [("c", ["b", "a"], None)]
    assert planned.shares == {}
    assert plan(points, {"a", "b", "d"}, {"b"}).goes == [points[3]]
