"""The disks of the guest, and what the guest does to them, all without root.

    system   512 MiB, ext4, real files of this machine; a sparse file; the remains of a deleted file in free blocks
    data     80 MiB + 4608 bytes (no multiple of 64 KiB), no file system; some of it zeros, some never written

The guest is not running: mkfs.ext4, debugfs and e2fsck do to its file system what a kernel would, so that the bytes
on disk are what a guest leaves there.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ntxengine.demo.shell import Shell
from ntxengine.errors import ToolError
from ntxengine.units import KIB, MIB

SECTOR = 512
FS_BLOCK = 4 * KIB

SYSTEM_SIZE = 512 * MIB
DATA_SIZE = 80 * MIB + 9 * SECTOR

FILES_BYTES = 192 * MIB
"""Real files of this machine on the system disk."""
LARGE_FILE = 128 * KIB
SMALL_FILES = 600
"""Files below LARGE_FILE: enough for a file system to look like one, few enough to be copied in a second."""

LEDGER_SIZE = 24 * MIB
PAGES = 96
"""Pages of the ledger that the guest rewrites."""

_ROOTS = ("/usr/lib", "/usr/share", "/usr/include", "/usr/bin", "/usr/local/lib")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")


class Guest:
    """Two raw disk images below `folder`."""

    def __init__(self, folder: Path, shell: Shell, *, seed: int = 20261123) -> None:
        self.system = folder / "system.raw"
        self.data = folder / "data.raw"
        self._scratch = folder / "scratch"
        self._shell = shell
        self._random = random.Random(seed)

    # ------------------------------------------------------------------------------------------------- making

    def make(self) -> None:
        """Make both disks."""
        self.system.parent.mkdir(parents=True, exist_ok=True)
        tree = self._scratch / "tree"
        count, size = copy_files(tree, FILES_BYTES)
        self._write_own_files(tree)
        self._shell.say(f"system disk: {count} files of this machine, {size // MIB} MiB, into an ext4 file system")
        options = ("-q", "-F", "-L", "system", "-d", str(tree))
        self._shell.quietly("mkfs.ext4", *options, str(self.system), f"{SYSTEM_SIZE // MIB}M")
        # Lets e2fsck pack the directories now, so that later runs of it change nothing but what they are asked to.
        self._check_file_system(("-f", "-y"))
        self._debugfs("rm /var/deleted.bin")
        shutil.rmtree(tree)
        self._make_data()

    def _write_own_files(self, tree: Path) -> None:
        """Files that the guest will rewrite, extend and delete; one sparse; one deleted before the first capture."""
        var = tree / "var"
        (var / "log").mkdir(parents=True)
        (var / "ledger.db").write_bytes(self._random.randbytes(LEDGER_SIZE))
        (var / "cache.bin").write_bytes(self._random.randbytes(32 * MIB))
        (var / "deleted.bin").write_bytes(self._random.randbytes(16 * MIB))
        (var / "log" / "messages").write_bytes(b"2026-11-23T04:05:06Z guest: all is well\n" * 30_000)
        with (var / "sparse.img").open("wb") as file:
            file.truncate(256 * MIB)
            file.seek(100 * MIB)
            file.write(self._random.randbytes(2 * MIB))

    def _make_data(self) -> None:
        with self.data.open("wb") as file:
            for _ in range(40):
                file.write(self._random.randbytes(MIB))
            file.write(bytes(8 * MIB))
            file.truncate(DATA_SIZE)
            file.seek(DATA_SIZE - 3 * SECTOR)
            file.write(self._random.randbytes(3 * SECTOR))

    # ----------------------------------------------------------------------------------------------- changing

    def change(self) -> None:
        """Do what a guest does in a day: rewrite, delete and trim, append, and a handful of single sectors."""
        self._rewrite_ledger()
        self._append_to_log()
        self._debugfs("rm /var/cache.bin")
        before = allocated(self.system)
        self._check_file_system(("-f", "-y", "-E", "discard"))
        trimmed = before - allocated(self.system)
        if trimmed < 32 * MIB:
            raise ToolError(f"e2fsck -E discard gave back {trimmed} bytes of {self.system}, expected the deleted files")
        self._shell.say(
            f"system disk: a database rewritten in {PAGES} places, a log extended, a file deleted, "
            f"{trimmed // MIB} MiB of free blocks trimmed"
        )
        sectors = self._write_sectors()
        self._shell.say(f"data disk: {sectors} single sectors written, 3 MiB zeroed")

    def _rewrite_ledger(self) -> None:
        """Overwrite pages of the database in place, as a database does."""
        pages = sorted(self._random.sample(range(LEDGER_SIZE // FS_BLOCK), PAGES))
        answer = self._debugfs(*(f"bmap /var/ledger.db {page}" for page in pages), write=False)
        blocks = [int(line) for line in answer.splitlines() if line.strip().isdigit()]
        if len(blocks) != len(pages) or 0 in blocks:
            raise ToolError(f"debugfs bmap gave {len(blocks)} blocks for {len(pages)} pages of /var/ledger.db")
        with self.system.open("r+b") as disk:
            for block in blocks:
                disk.seek(block * FS_BLOCK)
                disk.write(self._random.randbytes(FS_BLOCK))

    def _append_to_log(self) -> None:
        log = self._scratch / "messages"
        self._debugfs(f"dump /var/log/messages {log}", write=False)
        with log.open("ab") as file:
            file.write(b"2026-11-23T16:05:06Z guest: a captured day has passed\n" * 50_000)
        self._debugfs("rm /var/log/messages", "cd /var/log", f"write {log} messages")
        log.unlink()

    def _write_sectors(self) -> int:
        """Write single sectors in data, in what was never written, and the very last one; make some data zero."""
        last = DATA_SIZE // SECTOR - 1
        sectors = [1, 127, 128, 20_001, 20_003, 60 * MIB // SECTOR + 5, last]
        with self.data.open("r+b") as disk:
            for sector in sectors:
                disk.seek(sector * SECTOR)
                disk.write(self._random.randbytes(SECTOR))
            # Not on a 64 KiB boundary: the blocks at both ends keep some of their data.
            disk.seek(30 * MIB + 3 * SECTOR)
            disk.write(bytes(3 * MIB))
        return len(sectors)

    # -------------------------------------------------------------------------------------------------- tools

    def _debugfs(self, *requests: str, write: bool = True) -> str:
        """Run debugfs requests; return what it printed."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        script = self._scratch / "debugfs.txt"
        script.write_text("".join(f"{request}\n" for request in requests))
        options = ("-w",) if write else ()
        return self._shell.quietly("debugfs", *options, "-f", str(script), str(self.system))

    def _check_file_system(self, options: tuple[str, ...]) -> None:
        # 1: errors were corrected, which is what -y is there for.
        self._shell.quietly("e2fsck", *options, str(self.system), good=(0, 1))


def copy_files(target: Path, wanted_bytes: int) -> tuple[int, int]:
    """Copy `wanted_bytes` of real files of this machine below `target`; return how many files, and their bytes."""
    count = small = size = 0
    for path, length in real_files():
        if length < LARGE_FILE:
            if small == SMALL_FILES:
                continue
            small += 1
        if size + length > wanted_bytes:
            continue
        copy = target / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, copy)
        except OSError:  # gone, or not ours to read: there are others
            continue
        count, size = count + 1, size + length
        if size > wanted_bytes - LARGE_FILE:
            break
    return count, size


def real_files() -> Iterator[tuple[Path, int]]:
    """Yield regular files of this machine with their sizes, always in the same order."""
    for root in _ROOTS:
        for folder, subfolders, names in os.walk(root):
            subfolders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if not _PLAIN_PATH.fullmatch(str(path)) or path.is_symlink() or not path.is_file():
                    continue
                length = path.stat().st_size
                if length and os.access(path, os.R_OK):
                    yield path, length


def allocated(path: Path) -> int:
    """Return the bytes that a file takes on disk."""
    return path.stat().st_blocks * 512
