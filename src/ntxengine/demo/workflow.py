"""The workflow: make a guest, capture it, let it work, capture again, verify, restore, prove."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntxengine.demo.cluster import NTX, Cluster
from ntxengine.demo.guest import Guest
from ntxengine.demo.machine import check_addresses, check_space
from ntxengine.demo.proof import Prover
from ntxengine.demo.shell import Shell
from ntxengine.errors import NtxError, OptionsError

VM = "demo"
MARKER = ".ntx-demo"
"""Says that a folder is ours to delete."""


@dataclass(frozen=True)
class Point:
    """A captured point, and the copies of the disks that were made when it was frozen, by label."""

    id: str
    frozen: dict[str, Path]


def where_it_is(folder: Path, *, is_temporary: bool) -> str:
    """Return what is said at the end of a folder."""
    if is_temporary:
        return "It was in a temporary folder, which is removed now: --dir DIR keeps it."
    return f"Everything is in {folder}"


class Demo:
    """The workflow in `folder`, which is made, and cleaned up at the next run."""

    def __init__(self, folder: Path, say: Callable[[str], None], *, is_temporary: bool = False) -> None:
        self._folder = folder.absolute()
        # Commands are run from beside the folder, so that what is shown is short and can be repeated.
        self._place = self._folder.parent
        self._name = Path(self._folder.name)
        self._is_temporary = is_temporary
        self._say = say
        self._shell = Shell(say, self._place)
        self._guest = Guest(self._folder / "guest", self._shell)

    def run(self) -> None:
        """Run all of it.  Errors: ToolError, OptionsError; NtxError if a proof failed."""
        started = time.monotonic()
        self._shell.check_tools()
        check_addresses()
        self._start_clean()
        check_space(self._folder)
        # Says what the simulator lacks before a guest is made for it.
        self._shell.quietly(*NTX, "sim", "--help")
        self._title("A guest with two disks")
        self._guest.make()
        with Cluster(
            self._place, self._name / "cluster", vm=VM, system=self._guest.system, data=self._guest.data
        ) as cluster:
            repository = str(self._name / "repository")
            self._shell.environment.update(cluster.environment, NTX_REPOSITORY=repository)
            self._title("A cluster to run it on (simulated)")
            self._say("")
            self._say(f"$ {shlex.join(['ntx', *cluster.command])} &")
            self._say(f"$ . {cluster.connect}; export NTX_REPOSITORY={shlex.quote(repository)}")
            points = self._captures()
            self._read_back(points)
        proofs = self._prove(points)
        self._title("What it took")
        self._ntx("points", "--report")
        self._say("")
        self._say(f"{len(proofs.proofs)} proofs, none failed; {time.monotonic() - started:.0f} s in all.")
        self._say(where_it_is(self._folder, is_temporary=self._is_temporary))

    def _captures(self) -> list[Point]:
        self._ntx("vms")

        self._title("The first capture: everything that is allocated")
        first = self._capture(1)

        self._title("The guest works")
        self._guest.change()

        self._title("The second capture: what changed")
        return [first, self._capture(2)]

    def _capture(self, number: int) -> Point:
        """Keep a copy of the disks, capture, and return the new point.  The guest does nothing meanwhile."""
        frozen = {"system": self._guest.system, "data": self._guest.data}
        copies: dict[str, Path] = {}
        for index, (name, disk) in enumerate(frozen.items()):
            copies[f"scsi.{index}"] = self._folder / "frozen" / f"{number}-{name}.raw"
            copies[f"scsi.{index}"].parent.mkdir(exist_ok=True)
            self._shell.copy_sparse(disk, copies[f"scsi.{index}"])
        self._ntx("capture", VM)
        newest = self._points()[-1]
        return Point(newest["point_id"], copies)

    def _read_back(self, points: list[Point]) -> None:
        self._title("What the repository holds")
        self._ntx("points")
        self._ntx("verify", "--all")
        for point in points:
            self._ntx("restore", point.id, str(self._restored(point).relative_to(self._place)))

    def _prove(self, points: list[Point]) -> Prover:
        self._title("Proofs, by tools that are not ours")
        self._say("")
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

    # -------------------------------------------------------------------------------------------------- pieces

    def _start_clean(self) -> None:
        """Remove what the last run left, if it is ours, and make the folders."""
        if self._folder.exists():
            if not (self._folder / MARKER).exists() and any(self._folder.iterdir()):
                raise OptionsError(f"{self._folder} holds something that is not of a demo: name another folder")
            shutil.rmtree(self._folder)
        (self._folder / "guest").mkdir(parents=True)
        (self._folder / MARKER).write_text("made by ntx demo, and deleted by its next run\n")

    def _title(self, text: str) -> None:
        self._say("")
        self._say(f"== {text}")

    def _ntx(self, *arguments: str) -> None:
        self._shell.openly(*NTX, *arguments, shown=shlex.join(["ntx", *arguments]))

    def _points(self) -> list[dict[str, Any]]:
        answer = json.loads(self._shell.quietly(*NTX, "points", "--json"))
        points = answer.get("points")
        if not isinstance(points, list):
            raise NtxError("ntx points --json gave no list of points")
        return points

    def _restored(self, point: Point) -> Path:
        return self._folder / "restored" / point.id
