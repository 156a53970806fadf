"""Programs that are not ours: which package has them, and running one that nobody times."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

from ntxengine.concurrency.tied import tied
from ntxengine.errors import ToolError
from ntxengine.images.process import inherited

# losetup and sshd are here, and not on the PATH of a user who is not root.
_SYSTEM_PATHS = ("/usr/sbin", "/sbin")
_LAST_LINES = 3

PACKAGES = {
    "nbdcopy": "libnbd-bin",
    "nbdkit": "nbdkit",
    "qemu-img": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "losetup": "mount",
    "setpriv": "util-linux",
    "gcc": "gcc",
    "openssl": "openssl",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
}


def find(program: str) -> str | None:
    """Return the path of `program`, None if it is not installed."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PATHS]))


def why_missing(*programs: str) -> str | None:
    """Return what has to be installed for `programs`, None if nothing."""
    missing = [program for program in programs if find(program) is None]
    if not missing:
        return None
    packages = " ".join(sorted({PACKAGES[program] for program in missing}))
    return f"{', '.join(missing)} not installed: apt-get install {packages}"


def environment() -> dict[str, str]:
    """Return our environment, with messages in English and no secret."""
    return inherited() | {"LC_ALL": "C.UTF-8"}


def run_tool(program: str, *arguments: str, good: tuple[int, ...] = (0,)) -> str:
    """Run a program to its end and return its stdout.

    Errors: ToolError with the end of what it said.
    """
    path = find(program)
    if path is None:
        raise ToolError(str(why_missing(program)))
    command = tied(path, *arguments) if find("setpriv") else [path, *arguments]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment(),
        process_group=0,
        check=False,
    )
    if done.returncode not in good:
        raise ToolError(f"{shlex.join([program, *arguments])} {ending(done.returncode, done.stderr or done.stdout)}")
    return done.stdout


def ending(code: int, said: str) -> str:
    """Return how a program ended and its last words, in one line."""
    words = " / ".join(said.strip().splitlines()[-_LAST_LINES:])
    how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    return f"{how}: {words or 'it gave no reason'}"
