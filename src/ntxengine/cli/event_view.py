"""The events of a use case, shown as the progress of a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ntxengine.cli.progress import View
from ntxengine.events import Event, Planned, Progressed, Stage, StageBegan, Warned
from ntxengine.repository import Point


class CaptureEvents:
    """What captures tell.  `names` says what to call each VM, by id, where there are several."""

    def __init__(self, view: View, names: Mapping[str, str] | None = None) -> None:
        self._view = view
        self._names = names or {}

    def __call__(self, event: Event) -> None:
        name = self._names.get(event.vm_id, "")
        match event:
            case StageBegan():
                detail = _detail(event, is_named=bool(name))
                self._view.stage(event.stage.value, " ".join(filter(None, (name, detail))))
            case Planned() if event.consistency_reason:
                detail = f"crash-consistent: {event.consistency_reason}"
                self._view.stage(Stage.PLAN.value, " ".join(filter(None, (name, detail))))
            case Progressed():
                self._view.update(" ".join(filter(None, (event.stage.value, name, event.disk_label))), event)
            case Warned():
                self._view.warning(f"{name}: {event.text}" if name else event.text)


def _detail(event: StageBegan, *, is_named: bool) -> str:
    """Say what a stage of a capture is about; not which VM, where that is named already."""
    match event.stage:
        case Stage.FREEZE:
            how = f"({event.consistency}-consistent)"
            return how if is_named else f"{event.vm_name} {how}"
        case Stage.COMMIT:
            return event.point_id
        case Stage.RELEASE:
            return event.recovery_point_id
        case _:
            return event.disk_label or ("" if is_named else event.vm_id)


class VerifyEvents:
    """What `verify` tells of `points`."""

    def __init__(self, view: View, points: Iterable[Point]) -> None:
        self._view = view
        self._kinds = {point.id: point.kind for point in points}

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegan():
                kind = self._kinds[event.point_id]
                self._view.stage(event.stage.value, f"{event.point_id}, {kind} of {event.vm_name}")
            case Progressed():
                # Under a name that tells points apart: the end of the point's id.
                self._view.update(f"{event.point_id.rpartition('-')[2]} {event.disk_label}", event)


class CheckEvents(VerifyEvents):
    """What `check_repository` tells: which VM it is at, and then what verifying tells."""

    def __init__(self, view: View) -> None:
        super().__init__(view, ())

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageBegan):
            self._view.stage(event.stage.value, event.point_id or event.vm_id)
        else:
            super().__call__(event)


class RestoreEvents:
    """What `restore` tells: how far each disk is."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self, event: Event) -> None:
        match event:
            case Progressed():
                self._view.update(f"{event.stage.value} {event.disk_label}", event)
            case Warned():
                self._view.warning(event.text)


class PruneEvents:
    """What `prune` tells: how far each disk is."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self, event: Event) -> None:
        match event:
            case Progressed():
                short = event.point_id.rpartition("-")[2]
                self._view.update(f"{event.stage.value} {event.vm_name} {short} {event.disk_label}", event)
            case Warned():
                self._view.warning(event.text)
