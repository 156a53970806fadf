"""What a benchmark ran on and with: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import ntxengine
from ntxengine.bench import tools
from ntxengine.bench.result import Machine
from ntxengine.units import KIB

CHECKOUT = Path(ntxengine.__file__).parents[2]
"""The repository, if that is where we run from."""

_VERSION_OPTIONS = {"nbdcopy": "--version", "nbdkit": "--version", "qemu-img": "--version", "qemu-nbd": "--version"}


def machine(work_dir: Path) -> Machine:
    """Describe this machine."""
    info = _fields(Path("/proc/cpuinfo"))
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return Machine(
        cpu=info.get("model name", platform.processor() or platform.machine()),
        cores=len(os.sched_getaffinity(0)),
        memory=int(_fields(Path("/proc/meminfo")).get("MemTotal", "0 kB").split()[0]) * KIB,
        kernel=platform.release(),
        system=release.get("PRETTY_NAME", platform.system()),
        is_virtual="hypervisor" in info.get("flags", "").split(),
        load_average=os.getloadavg()[0],
        work_file_system=_file_system(work_dir),
    )


def versions() -> dict[str, str | None]:
    """Return the versions of what takes part; None: not installed."""
    found: dict[str, str | None] = {"ntx": ntxengine.__version__, "python": platform.python_version()}
    for program, option in _VERSION_OPTIONS.items():
        is_there = tools.find(program) is not None
        found[program] = tools.run_tool(program, option).partition("\n")[0] if is_there else None
    return found


def commit() -> tuple[str | None, bool | None]:
    """Return the commit that we run from and whether something was changed since; None, None if it is no checkout."""
    if not (CHECKOUT / ".git").exists():
        return None, None
    try:
        head = _git("rev-parse", "HEAD")
        return head.strip(), bool(_git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def command() -> tuple[str, ...]:
    """Return the command as it was typed."""
    return ("ntx", *sys.argv[1:])


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
    ).stdout


def _fields(path: Path) -> dict[str, str]:
    """Return the `name: value` lines of a file of /proc; of a name that comes again, the first."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def _file_system(path: Path) -> str:
    """Return the kind of the file system that `path` is on."""
    where = os.path.realpath(path)
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, name, *_ = line.split()
        inside = place == "/" or where == place or where.startswith(f"{place}/")
        if inside and len(place) >= len(best):
            best, kind = place, name
    return kind
