"""Replicas of the VM of a lab.  What they hold is judged by cmp and qemu-img, never by ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ntxengine.capture import CaptureOptions
from ntxengine.events import Stage
from ntxengine.replicate.cycle import Cycle, replicate
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.state import Intent, Replica, ReplicaState
from ntxengine.replicate.targets import Target, TargetOptions, target_of
from tests.capture.lab import Lab, Witness
from tests.support.vmdk import qemu_equal


class Killed(BaseException):
    """The cycle ends here, and cleans up nothing on its target: as SIGKILL would."""


class KillsAt(Witness):
    """Ends a cycle when a stage begins for the `nth` time."""

    def __init__(self, stage: Stage, nth: int = 1) -> None:
        super().__init__()
        self._stage = stage
        self._left = nth

    def began(self, stage: Stage) -> None:
        self._left -= stage is self._stage
        if not self._left and stage is self._stage:
            raise Killed


class Replicating:
    """The state folder is the repository of the lab, which has no points."""

    def __init__(self, lab: Lab, text: str, form: str = "", **target: Any) -> None:
        self.lab = lab
        self.text = text
        self.form = form
        self.target_options = TargetOptions(format=form, **target)
        self.make_witness: Callable[[], Witness] = Witness
        self.witness = Witness()

    @property
    def target(self) -> Target:
        return target_of(self.text, self.target_options)

    @property
    def state(self) -> ReplicaState:
        return ReplicaState(self.lab.repository.path / self.lab.vm_id, self.target.id)

    @property
    def replica(self) -> Replica:
        found = self.state.replica()
        assert found is not None
        return found

    @property
    def dead(self) -> Intent | None:
        return self.state.pending(self.state.replica())

    async def run(self, *, sample_bytes: int = 64 * 1024**2, verify_all: bool = False, **capture: Any) -> Cycle:
        """Run one cycle."""
        self.witness = self.make_witness()
        return await replicate(
            self.lab.prism,
            self.lab.repository,
            await self.lab.prism.vm(self.lab.vm_id),
            self.target,
            options=ReplicateOptions(CaptureOptions(**capture), sample_bytes, verify_all),
            attacher=self.lab.attacher,
            on_event=self.witness,
        )

    @property
    def path(self) -> Path | None:
        """The target, if it is a folder."""
        return Path(self.text.partition(":")[2]) if self.target.default_state else None

    def folder(self) -> Path:
        """Return the folder of the VM on a target that is one."""
        assert self.path is not None
        return self.path / self.replica.name

    def assert_equal(self, frozen: list[bytes] | None = None) -> None:
        """Compare each disk of the replica with the guest's, as it is, or as it was frozen, by cmp or qemu-img."""
        disks = sorted(self.replica.disks, key=lambda disk: disk.label)
        guest = self.lab.disk_files
        if frozen is not None:
            guest = [self.lab.sim.state_dir / f"expected-{number}.raw" for number in range(len(frozen))]
            for file, content in zip(guest, frozen, strict=True):
                file.write_bytes(content)
        assert len(disks) == len(guest)
        for disk, expected in zip(disks, guest, strict=True):
            self.compare(disk.files[0].name.replace("{disk}", disk.label), expected)

    def compare(self, name: str, expected: Path) -> None:
        if name.startswith("nbd"):
            copied = self.lab.sim.state_dir / "copied.raw"
            subprocess.run(["nbdcopy", name, copied], check=True)
            command = ["cmp", "-n", str(expected.stat().st_size), str(copied), str(expected)]
        elif self.target.kind == "vmware":
            descriptor = self.folder() / f"{name.removesuffix('-flat.vmdk')}.vmdk"
            qemu_equal(descriptor, "vmdk", expected)
            command = ["cmp", str(self.folder() / name), str(expected)]
        elif self.form == "qcow2":
            image = self.folder() / name
            subprocess.run(["qemu-img", "check", "-q", image], check=True)
            told = subprocess.run(["qemu-img", "info", "--output=json", image], check=True, capture_output=True)
            assert json.loads(told.stdout)["virtual-size"] == expected.stat().st_size
            command = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(expected)]
        else:
            command = ["cmp", str(self.folder() / name), str(expected)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr

    def history(self, generation: int) -> list[str]:
        """Return the newest file of each disk at an older generation, in the order of the labels."""
        labels = {disk.disk_id: disk.label for disk in self.replica.disks}
        (found,) = (each for each in self.replica.history if each.generation == generation)
        return [chain[0] for disk_id, chain in sorted(found.disks.items(), key=lambda each: labels[each[0]])]

    def assert_clean(self) -> None:
        """Check that nothing is left of cycles but what the replica says that it has."""
        lab = self.lab
        held = {point.id for point in lab.sim.world.state.points.values()}
        assert held == {self.replica.recovery_point_id}
        assert lab.hot_added() == []
        assert self.dead is None
        named = {image.manifest for disk in self.replica.disks for image in disk.files}
        assert {path.name for path in self.state.path.iterdir()} - {self._definition} == {"replica.json", *named}

    @property
    def _definition(self) -> str:
        return Path(self.replica.definition).name
