"""The workflow: make a guest, capture it, let it work, capture again, verify, restore, prove."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntxengine.demo.cluster import NTX, Cluster, demo_cluster
from ntxengine.demo.guest import Guest
from ntxengine.demo.proof import Prover
from ntxengine.demo.workplace import Workplace
from ntxengine.errors import NtxError

VM = "demo"


@dataclass(frozen=True)
class Point:
    """A captured point, and the copies of the disks that were made when it was frozen, by label."""

    id: str
    frozen: dict[str, Path]


class CaptureDemo:
    """The workflow in a workplace."""

    def __init__(self, at: Workplace) -> None:
        self._at = at
        self._folder = at.folder
        self._shell = at.shell
        self._guest = Guest(at.folder / "guest", at.shell)

    def run(self) -> None:
        """Run all of it.  Errors: ToolError, OptionsError; NtxError if a proof failed."""
        at = self._at
        at.begin()
        at.title("A guest with two disks")
        self._guest.make()
        config = demo_cluster(VM, system=self._guest.system, data=self._guest.data)
        with Cluster(at.beside, at.name / "cluster", config) as cluster:
            repository = str(at.name / "repository")
            self._shell.environment.update(cluster.environment, NTX_REPOSITORY=repository)
            at.title("A cluster to run it on (simulated)")
            at.say("")
            at.say(f"$ {shlex.join(['ntx', *cluster.command])} &")
            at.say(f"$ . {cluster.connect}; export NTX_REPOSITORY={shlex.quote(repository)}")
            points = self._captures()
            self._read_back(points)
        proofs = self._prove(points)
        at.title("What it took")
        at.ntx("points", "--report")
        at.end(f"{len(proofs.proofs)} proofs, none failed")

    def _captures(self) -> list[Point]:
        self._at.ntx("vms")

        self._at.title("The first capture: everything that is allocated")
        first = self._capture(1)

        self._at.title("The guest works")
        self._guest.change()

        self._at.title("The second capture: what changed")
        return [first, self._capture(2)]

    def _capture(self, number: int) -> Point:
        """Keep a copy of the disks, capture, and return the new point.  The guest does nothing meanwhile."""
        frozen = {"system": self._guest.system, "data": self._guest.data}
        copies: dict[str, Path] = {}
        for index, (name, disk) in enumerate(frozen.items()):
            copies[f"scsi.{index}"] = self._folder / "frozen" / f"{number}-{name}.raw"
            copies[f"scsi.{index}"].parent.mkdir(exist_ok=True)
            self._shell.copy_sparse(disk, copies[f"scsi.{index}"])
        self._at.ntx("capture", VM)
        newest = self._points()[-1]
        return Point(newest["point_id"], copies)

    def _read_back(self, points: list[Point]) -> None:
        self._at.title("What the repository holds")
        self._at.ntx("points")
        self._at.ntx("verify", "--all")
        for point in points:
            self._at.ntx("restore", point.id, str(self._restored(point).relative_to(self._at.beside)))

    def _prove(self, points: list[Point]) -> Prover:
        self._at.title("Proofs, by tools that are not ours")
        self._at.say("")
        prover = Prover(self._shell)
        stored = {point["point_id"]: point for point in self._points()}
        for number, point in enumerate(points, 1):
            for disk in stored[point.id]["disks"]:
                label, image, frozen = disk["label"], Path(disk["path"]), point.frozen[disk["label"]]
                restored = self._restored(point) / f"{label}.raw"
                name = f"point {number} {label}"
                prover.image_is_sound(image, name)
                prover.image_holds(image, frozen, name)
                prover.file_equals(restored, frozen, name)
                if label == "scsi.0":
                    prover.file_system_is_clean(restored, name)
        for label in points[0].frozen:
            prover.files_differ(points[0].frozen[label], points[1].frozen[label], label)
        prover.check()
        return prover

    def _points(self) -> list[dict[str, Any]]:
        answer = json.loads(self._shell.quietly(*NTX, "points", "--json"))
        points = answer.get("points")
        if not isinstance(points, list):
            raise NtxError("ntx points --json gave no list of points")
        return points

    def _restored(self, point: Point) -> Path:
        return self._folder / "restored" / point.id
