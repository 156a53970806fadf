"""Points to be forgotten, and what changes what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ntxengine.repository import Point, Retention, retention_file
from ntxengine.repository.store import PointStore
from tests.repository.builders import VM, ModelDisk, Write, capture

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
SIZE = 65536


def make_points(repository: PointStore, count: int, *, vm_id: str = VM) -> list[Point]:
    model = ModelDisk(SIZE)
    return [capture(repository, model, [Write(0, 512, n + 1)], vm_id=vm_id) for n in range(count)]


def change(repository: PointStore, decide: Callable[[Retention], Retention], *, vm_id: str = VM) -> Retention:
    return retention_file.change(repository.path / vm_id, decide)


def forget(repository: PointStore, *points: Point) -> None:
    change(repository, lambda said: said.forget([point.id for point in points], NOW))


def listed(repository: PointStore) -> list[str]:
    return [point.id for point in repository.points(VM)]
