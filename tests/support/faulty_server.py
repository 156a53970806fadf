"""The process that serves a faulty file system: see faulty.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Where libfuse 2 is installed as well, it would be taken, and cut each write into pages.
os.environ["FUSE_LIBRARY_PATH"] = "libfuse3.so.3"

import mfusepy

from tests.support.faulty import IS_SHORT, KILLS_BEFORE, KILLS_BEHIND, KILLS_WITHIN, Plan, kill, part_of

_ASYNC_DIO = 1 << 15  # FUSE_CAP_ASYNC_DIO


class Faulty(mfusepy.Operations):
    """The files of a folder, whose changes are counted."""

    use_ns = True

    def __init__(self, folder: Path, plan: Plan, request_size: int) -> None:
        self._folder = folder
        self._plan = plan
        self._request_size = request_size

    def init_with_config(self, conn_info: Any, config_3: Any) -> None:
        if self._request_size:
            conn_info.max_write = self._request_size
            conn_info.want &= ~_ASYNC_DIO

    def _at(self, path: str) -> str:
        return f"{self._folder}{path}"

    def _change(self, change: Callable[[], Any], in_part: Callable[[], Any] | None = None) -> Any:
        what, code, pid = self._plan.next()
        if code:
            raise mfusepy.FuseOSError(code)
        if what == KILLS_BEFORE:
            kill(pid)
        if what in (IS_SHORT, KILLS_WITHIN) and in_part is not None:
            change = in_part
        result = change()
        if what in (KILLS_WITHIN, KILLS_BEHIND):
            kill(pid)
        return result

    # ------------------------------------------------------------------------------------------------ changes

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return int(self._change(lambda: os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)))

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return int(self._change(lambda: os.pwrite(fh, data, offset), lambda: os.pwrite(fh, part_of(data), offset)))

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._change(lambda: os.truncate(fh if fh is not None else self._at(path), length))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._change(lambda: None)
        return 0

    def unlink(self, path: str) -> int:
        self._change(lambda: os.unlink(self._at(path)))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._change(lambda: os.rename(self._at(old), self._at(new)))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._change(lambda: os.mkdir(self._at(path), mode))
        return 0

    def rmdir(self, path: str) -> int:
        self._change(lambda: os.rmdir(self._at(path)))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._change(lambda: os.chmod(self._at(path), mode))
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        self._change(lambda: os.chown(self._at(path), uid, gid))
        return 0

    def symlink(self, target: str, source: str) -> int:
        self._change(lambda: os.symlink(source, self._at(target)))
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._change(lambda: None)
        return 0

    # ------------------------------------------------------------------------------------------------- all else

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.fstat(fh) if fh is not None else os.lstat(self._at(path))
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino", "st_blocks")
        times = {f"st_{name}time": getattr(status, f"st_{name}time_ns") for name in "amc"}
        return {**{name: getattr(status, name) for name in names}, **times}

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags & os.O_ACCMODE)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_") and name != "f_fsid"}

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._at(path))]


def main(folder: str, mounted: str, plan: str, hard_remove: str, request_size: str) -> None:
    """Serve until it is unmounted."""
    mfusepy.FUSE(
        Faulty(Path(folder), Plan(Path(plan)), int(request_size)),
        mounted,
        foreground=True,
        nothreads=True,
        hard_remove=hard_remove == "1",
        default_permissions=True,
        entry_timeout=0,  # tests change the folder behind it, too
        attr_timeout=0,
        negative_timeout=0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
