"""What a capture tells of itself, shown as the progress of a command."""

from __future__ import annotations

from ntxengine.cli.progress import View
from ntxengine.dataplane.copy import Progress
from ntxengine.prism.models import Vm


class ViewObserver:
    """The observer of `capture`.  `subject` says of which VM, if there are several."""

    def __init__(self, view: View, vm: Vm, subject: str = "") -> None:
        self._view = view
        self._vm = vm
        self._before_label = f"{subject} " if subject else ""
        self._before_text = f"{subject}: " if subject else ""
        self._labels = {disk.id: disk.label for disk in vm.disks}
        self._stages: dict[str, str] = {}

    def stage(self, name: str, detail: str) -> None:
        # The detail of a stage of one disk is the disk's label.
        self._stages[detail] = name
        if self._before_label:  # that says of which VM already
            detail = "" if detail == self._vm.id else detail.removeprefix(f"{self._vm.name} ")
        self._view.stage(name, f"{self._before_label}{detail}".rstrip())

    def disk_progress(self, disk_id: str, progress: Progress) -> None:
        label = self._labels.get(disk_id, disk_id)
        self._view.update(f"{self._stages.get(label, 'copy')} {self._before_label}{label}", progress)

    def warning(self, text: str) -> None:
        self._view.warning(f"{self._before_text}{text}")
