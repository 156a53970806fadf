"""A file system that loses its power: what was not synced before is gone, as on a machine whose plug is pulled."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from pathlib import Path

from tests.support.servers import require, require_root

_GOING_DOWN = 0x8004587D  # _IOR('X', 125, __u32), of ext4 and XFS
_WITHOUT_ITS_LOG = 2
_SIZE = 400 << 20


class PoweredDisk:
    """A file system in a file, mounted at `path`: ext4, or XFS whose files can share blocks.  Needs root."""

    def __init__(self, folder: Path, kind: str = "ext4") -> None:
        require(f"mkfs.{kind}", "mount", "umount")
        require_root("a file system of its own")
        self.path = folder / "mounted"
        self.path.mkdir()
        # ext4 writes its journal each 5 s by itself: what was not synced would be there after a slow test.
        self._options = "loop,commit=600" if kind == "ext4" else "loop"
        self._image = folder / "disk.img"
        with open(self._image, "wb") as file:
            file.truncate(_SIZE)
        subprocess.run([f"mkfs.{kind}", "-q", "-F" if kind == "ext4" else "-f", self._image], check=True)
        self._mount()

    def cut(self) -> None:
        """Lose the power, and come back: the file system is checked as the kernel does after it."""
        self.lose()
        self.come_back()

    def lose(self) -> None:
        """Lose the power: whoever works on it from now on is told of an input/output error."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _GOING_DOWN, struct.pack("I", _WITHOUT_ITS_LOG))
        finally:
            os.close(fd)

    def come_back(self) -> None:
        """Have power again.  Nothing may be open there.

        Its bytes move to another file: where somebody has mounts of his own meanwhile (`unshare --mount`) the file
        system without power is still mounted there, and to mount that file again would give the same one.
        """
        subprocess.run(["umount", self.path], check=True)
        moved = self._image.with_suffix(".moved")
        subprocess.run(["cp", "--sparse=always", self._image, moved], check=True)
        moved.replace(self._image)
        self._mount()

    def sync(self) -> None:
        """Make durable what is there.

        Not with os.sync(): that one writes every file system, so the disk of a test that runs at the same time, and
        which shows what a cut takes away, would lose nothing.
        """
        subprocess.run(["sync", "-f", self.path], check=True)

    def close(self) -> None:
        """Unmount it.  A second time is allowed."""
        if self.path.is_mount():
            subprocess.run(["umount", "-l", self.path], check=True)

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", self._options, self._image, self.path], check=True)
