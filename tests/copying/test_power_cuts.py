"""The power goes at any step of a copy with a journal: what the journal says is true, and the same copy goes on.

A few cuts in `make test`; `make soak` sets NTX_CUT_ROUNDS and NTX_SOAK_SEED for more.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ntxengine
from ntxengine import files
from ntxengine._core.device import Device
from ntxengine.dataplane import journal, transfer
from ntxengine.dataplane.journal import DigestsBelow
from ntxengine.dataplane.manifest import Manifest
from ntxengine.files import durable
from ntxengine.images.endpoints import Format
from ntxengine.images.writer import map_of
from tests.copying.interrupting import MIB, make_disk, start, stored_to, wait_until
from tests.support.power import PoweredDisk
from tests.support.servers import require

pytestmark = pytest.mark.usefixtures("often")

LONG = os.environ.get("NTX_CUT_ROUNDS")
ROUNDS: dict[Format, int] = {"raw": int(LONG or "4"), "qcow2": int(LONG or "1")}
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
SIZE = 6 * MIB + 512
OPTIONS = ntxengine.CopyOptions(bandwidth=16 * MIB, connections=1, request_size=65536)
LONG_OPTIONS = dataclasses.replace(OPTIONS, bandwidth=MIB)
"""Of a copy that makes many checkpoints before its end, also where each of them takes long."""

STEPS = 60
"""A little more than what a copy has that begins, so that some come to their end."""

MIDDLE = 30
"""Of the first cut: behind some checkpoints, and before the end."""


class Copied:
    """A copy to a disk that may lose its power.  `journal` is there too, unless another folder is named."""

    def __init__(
        self, disk: PoweredDisk, folder: Path, *, format: Format = "raw", journal_folder: Path | None = None
    ) -> None:
        self.disk = disk
        self._folder = folder
        self._format: Format = format
        self.source = make_disk(folder / "source", SIZE)
        self.journal = (journal_folder or disk.path) / "journal"
        self.manifest = self.journal.with_name("journal.manifest")
        self.target = disk.path / "target"
        self.partial = disk.path / "target.ntx-partial"

    async def copy(self, options: ntxengine.CopyOptions = OPTIONS) -> ntxengine.DiskCopyReport:
        return await ntxengine.copy(
            self.source,
            self.target,
            target_format=self._format,
            journal=self.journal,
            retry_for_s=0,
            options=options,
        )

    def _read(self, path: Path, stored_to: int) -> bytes:
        if self._format == "raw":
            return path.read_bytes()
        image = self._folder / "image"
        shutil.copy(path, image)
        if map_of(path).exists():
            finish_kept(image, shutil.copy(map_of(path), map_of(image)), size=SIZE, stored_to=stored_to)
        subprocess.run(["qemu-img", "check", "-q", image], check=True)
        raw = self._folder / "raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw], check=True)
        return raw.read_bytes()

    def check_kept(self) -> int:
        """Check that what the journal says is true; return what it says."""
        found = journal.read(self.journal)
        if found is None or found.stored_to == 0:
            return 0
        there = self.target if self.target.exists() else self.partial
        source = self.source.read_bytes()
        assert self._read(there, found.stored_to)[: found.stored_to] == source[: found.stored_to]
        with Manifest.reopen(self.manifest, size=SIZE, unseal=True) as digests:
            assert DigestsBelow(digests).at(found.stored_to) == found.digests
        return found.stored_to

    def check_whole(self) -> None:
        assert self._read(self.target, SIZE)[:SIZE] == self.source.read_bytes()
        assert not self.partial.exists()


def finish_kept(image: Path, map: Path, *, size: int, stored_to: int) -> None:
    """Make an image of what a checkpoint holds."""
    device = Device.open_qcow2(os.fsencode(image), os.fsencode(map), size, again_from=stored_to)
    device.finish()
    device.close()
    map.unlink()


class Cut:
    """The power goes at the Nth of the steps that make something durable: before one, or behind it."""

    def __init__(self, disk: PoweredDisk, steps: int) -> None:
        self.is_made = False
        self._disk = disk
        self._left = steps

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def cut(*arguments: Any, **options: Any) -> Any:
            self._step()
            result = function(*arguments, **options)
            self._step()
            return result

        return cut

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0 and not self.is_made:
            self.is_made = True
            self._disk.lose()


async def copy_until(copied: Copied, steps: int, options: ntxengine.CopyOptions = OPTIONS) -> bool:
    """Copy until the power goes at a step, or behind the last one; return whether the copy came to its end."""
    cut = Cut(copied.disk, steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "PROGRESS_INTERVAL_S", 0.01)
        patch.setattr(os, "fdatasync", cut.around(os.fdatasync))
        patch.setattr(files, "publish", cut.around(files.publish))
        for name in ("write_file", "replace", "sync_folder", "remove_file"):
            patch.setattr(durable, name, cut.around(getattr(durable, name)))
        try:
            await copied.copy(options)
        except (ntxengine.NtxError, OSError):
            assert cut.is_made
            ended = False
        else:
            ended = True
    if not cut.is_made:
        copied.disk.lose()
    copied.disk.come_back()
    return ended


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_what_a_journal_says_is_true_after_a_cut_at_any_step(
    format: Format, powered_disk: PoweredDisk, tmp_path: Path
) -> None:
    if format == "qcow2":
        require("qemu-nbd", "qemu-img")
    chance = random.Random(SEED)
    copied = Copied(powered_disk, tmp_path, format=format)
    kept = []

    for steps in [MIDDLE, *(chance.randrange(STEPS) for _ in range(ROUNDS[format] - 1))]:
        if await copy_until(copied, steps, OPTIONS if kept else LONG_OPTIONS):
            copied.check_whole()
        kept.append(copied.check_kept())
        if copied.target.exists() and not copied.journal.exists():
            copied.check_whole()
            copied.target.unlink()
    await copied.copy()

    copied.check_whole()
    assert kept[0] > 0
    # Where the power went behind the journal's end its manifest may be left: the next run with that name removes it.
    left = {path.name for path in powered_disk.path.iterdir()} - {"lost+found", "journal.manifest", ".journal.lock"}
    assert left == {"target"}


@pytest.mark.parametrize("preload", ["", "libeatmydata.so"], ids=["synced", "not synced"])
def test_a_journal_that_says_too_much_is_seen(preload: str, powered_disk: PoweredDisk, tmp_path: Path) -> None:
    """The control: of a target whose syncs do nothing a journal that lasts says what is not so."""
    require("eatmydata")
    copied = Copied(powered_disk, tmp_path, journal_folder=tmp_path)
    powered_disk.sync()
    command = ("copy", copied.source, copied.target, "--journal", copied.journal, "--connections", "1")
    process = start(*command, "--bandwidth", "1M", "--request-size", "64K", env={"LD_PRELOAD": preload})
    assert wait_until(lambda: stored_to(copied.journal) > 0 or process.poll() is not None, 60)
    process.kill()
    _, err = process.communicate()
    assert process.returncode < 0, err.decode()

    powered_disk.cut()

    if preload:
        with pytest.raises((AssertionError, FileNotFoundError)):
            copied.check_kept()
    else:
        assert copied.check_kept() > 0
