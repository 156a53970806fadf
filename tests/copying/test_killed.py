"""`ntx copy --journal`, killed at random moments and run again each time: every byte is right, and little is repeated.

A few kills of small disks in `make test`; `make soak` sets NTX_COPY_KILLS, NTX_COPY_SIZE and NTX_COPY_BANDWIDTH for
hundreds of a large one.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.units import parse_size
from tests.copying.interrupting import killed_after, make_disk, processes_of, repeated, start, stored_to, wait_until
from tests.support.servers import qemu_nbd, require

SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
KILLS = int(os.environ.get("NTX_COPY_KILLS", "20"))
DISK_SIZE = parse_size(os.environ.get("NTX_COPY_SIZE", "12M")) + 512
BANDWIDTH = parse_size(os.environ.get("NTX_COPY_BANDWIDTH", "8M"))
IS_SOAK = "NTX_COPY_SIZE" in os.environ
CHECKPOINT_S = 1.0 if IS_SOAK else 0.3  # a tenth, and up to two until it is asked for
MOST_JOURNAL = 1024**2
LONGEST_S = 3.0 if IS_SOAK else 0.7
SOON = 0.1
"""Of the kills so many come before the copy has begun, perhaps: Python takes longer to start than a copy to go on."""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for what the copies need for a while: sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="ntx-test-") as folder:
        yield Path(folder)


class Killed:
    """Copies of one disk, one after the other, until enough runs were killed."""

    def __init__(self, folder: Path, temporary: Path, target: str, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._temporary = temporary
        self.source = make_disk(folder / "source", DISK_SIZE)
        self.journal = folder / "journal"
        self.manifest = folder / "journal.manifest"
        self.target = target
        self.kills = self.repeated = self.most_repeated = 0
        self._chance = random.Random(SEED)
        self._command = ("copy", self.source, target, "--journal", self.journal, "--bandwidth", f"{BANDWIDTH}")
        self._options = options

    def run_to_the_end(self) -> None:
        """Run it again and again until it is whole."""
        tries_in_vain = 0
        while True:
            was_stored = stored_to(self.journal)
            before = changed_at(self.manifest)
            process = start(
                *(*self._command, *self._options, "-q"), often=not IS_SOAK, env={"TMPDIR": str(self._temporary)}
            )
            if self._chance.random() > SOON:
                self._wait_until_it_copies(process, before)
            if not killed_after(self._chance.uniform(0, LONGEST_S * (1 + tries_in_vain)), process):
                return
            self.kills += 1
            if Path(self.target).exists() and not self.journal.exists():
                # It was whole already, and something that the next run with this journal removes may be left.
                self.manifest.unlink(missing_ok=True)
                self.journal.with_name(".journal.lock").unlink(missing_ok=True)
                for each in self._temporary.iterdir():
                    shutil.rmtree(each)
                return
            tries_in_vain = 0 if stored_to(self.journal) > was_stored else tries_in_vain + 1
            if self.journal.exists():
                assert self.journal.stat().st_size < MOST_JOURNAL
                again = repeated(self.journal, self.manifest)
                self.repeated += again
                self.most_repeated = max(self.most_repeated, again)

    def _wait_until_it_copies(self, process: subprocess.Popen[bytes], before: int) -> None:
        wait_until(lambda: changed_at(self.manifest) != before or process.poll() is not None, 60)

    def check_end(self) -> None:
        """Check that nothing is left of all runs, and that little was repeated."""
        names = sorted(path.name for path in self._folder.iterdir())
        assert [name for name in names if "journal" in name or "partial" in name] == []
        assert list(self._temporary.iterdir()) == []
        assert wait_until(lambda: processes_of(self._folder) + processes_of(self._temporary) == [])
        if self.kills:
            assert self.repeated / self.kills <= 2 * CHECKPOINT_S * BANDWIDTH


def test_a_new_file_is_whole_after_many_kills(tmp_path: Path, temporary: Path) -> None:
    target = tmp_path / "target"
    copy = Killed(tmp_path, temporary, str(target))
    copies = 0

    while copy.kills < KILLS:
        copy.run_to_the_end()
        copies += 1

        assert is_same(target, copy.source)
        copy.check_end()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]
        target.unlink()

    assert copies >= 1
    again = f"{copy.repeated} bytes of data repeated, {copy.most_repeated} at most"
    sys.stdout.write(f"{copy.kills} kills in {copies} copies, {again}\n")


def test_an_image_is_whole_after_many_kills(tmp_path: Path, temporary: Path) -> None:
    require("qemu-img", "setpriv")
    target = tmp_path / "target.qcow2"
    copy = Killed(tmp_path, temporary, str(target), "--target-format", "qcow2")

    copy.run_to_the_end()

    subprocess.run(["qemu-img", "check", "-q", target], check=True)
    # An image has whole sectors, and so has this disk.
    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copy.source, target], check=True)
    assert copy.kills >= 2
    copy.check_end()


def test_an_export_is_whole_after_many_kills(tmp_path: Path, temporary: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(random.Random(2).randbytes(DISK_SIZE))  # where nothing is copied, that shows
    with qemu_nbd(disk) as uri:
        copy = Killed(tmp_path / "journals", temporary, uri, "--verify")

        copy.run_to_the_end()

        assert is_same(disk, copy.source)
        assert copy.kills >= 2
        copy.check_end()


def changed_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def is_same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "-s", one, other], check=False).returncode == 0
