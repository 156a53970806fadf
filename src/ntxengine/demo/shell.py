"""Running programs in front of a person: the command line first, then what it prints."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path

from ntxengine.errors import ToolError

# mkfs.ext4, debugfs and e2fsck are here, and not on the PATH of a user who is not root.
_SYSTEM_PATHS = ("/usr/sbin", "/sbin")
_LAST_LINES = 5

PACKAGES = {
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "cmp": "diffutils",
    "setpriv": "util-linux",
    "curl": "curl",
}


class Shell:
    """Runs programs in one place and environment; `say` shows a line to the person."""

    def __init__(self, say: Callable[[str], None], place: Path) -> None:
        self.say = say
        self._place = place
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PATHS])
        self.environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}

    def check_tools(self) -> None:
        """Raise ToolError, naming the packages, if a program is missing."""
        missing = [name for name in PACKAGES if shutil.which(name, path=self.environment["PATH"]) is None]
        if missing:
            packages = " ".join(sorted({PACKAGES[name] for name in missing}))
            raise ToolError(f"the demo needs {', '.join(missing)}: apt-get install {packages}")

    def quietly(self, *command: str, good: Collection[int] = (0,)) -> str:
        """Run a program and return its stdout; nothing is shown.

        Errors: ToolError with the end of what it said, if it did not end with one of `good`.
        """
        done = subprocess.run(
            command,
            cwd=self._place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode not in good:
            said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
            raise ToolError(f"{shlex.join(command)} ended with {done.returncode}: {said}")
        return done.stdout

    def code(self, *command: str) -> int:
        """Run a program and return what it ended with; nothing is shown."""
        return subprocess.run(
            command, cwd=self._place, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode

    def openly(self, *command: str, shown: str, good: Collection[int] = (0,)) -> None:
        """Run a program with its output on the screen, after a line with what a person would type for it.

        Errors: ToolError, if it did not end with one of `good`.
        """
        self.say("")
        self.say(f"$ {shown}")
        # If we are killed, the kernel ends the program for us.
        tied = ("setpriv", "--pdeathsig", "TERM", "--", *command)
        code = subprocess.run(tied, cwd=self._place, env=self.environment, check=False).returncode
        if code not in good:
            raise ToolError(f"{shown} ended with {code}")

    def copy_sparse(self, source: Path, target: Path) -> None:
        """Copy a disk image, keeping its holes; share the blocks where the file system can."""
        self.quietly("cp", "--sparse=auto", "--reflink=auto", str(source), str(target))
