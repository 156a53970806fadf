"""The events of a use case, shown as the progress of a command."""

from __future__ import annotations

from collections.abc import Mapping

from ntxengine.cli.progress import View
from ntxengine.events import Event, Planned, Progressed, Stage, StageBegan, Warned


class CaptureEvents:
    """Shows what captures tell.  `names` says what to call each VM, by id, where there are several."""

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
