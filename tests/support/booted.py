"""A machine with a systemd of its own: this one's files, written to in memory, booted in a container.  Needs root.

    with booted(tmp_path, binds={"/opt/engine": ROOT}) as machine:
        machine.run("systemctl", "start", "ntx-agent")

It has this machine's network, and its own processes, mounts, users and /tmp.  What is written there is gone with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.support.servers import require, require_root, skip

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 120.0

ENGINE = Path("/opt/engine")
"""Where this source tree is in the machine."""


class Booted:
    """A booted machine; `root` is its file system, seen from here."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self.leader = leader

    def run(self, *command: str | Path, check: bool = True, input_text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program there, as root."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.leader), "--all", "--wdns=/", "--", *map(str, command)],
            input=input_text,
            capture_output=True,
            text=True,
            timeout=3 * LIMIT_S,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def shell(self, text: str, *, check: bool = True) -> str:
        return self.run("bash", "-euc", text, check=check).stdout

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output", "cat", "--unit", unit).stdout

    def until(self, is_so: Callable[[], object], why: Callable[[], str] = lambda: "") -> None:
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end, why()
            time.sleep(0.1)


def python_there() -> Path:
    """Return a Python that a service can reach there, and that can load what is built for the one of these tests."""
    base = Path(os.path.realpath(sys.executable))
    if not any(base.is_relative_to(home) for home in ("/root", "/home")):
        return base
    system = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    if not system.exists():
        skip(f"a Python of version {sys.version_info.major}.{sys.version_info.minor} that lies in nobody's home")
    return system


def engine_there() -> dict[Path, Path]:
    """Return what has to be bound for this source tree and the libraries of these tests to be there."""
    return {ENGINE / "src": ROOT / "src", ENGINE / "site": Path(sysconfig.get_path("platlib"))}


@contextlib.contextmanager
def booted(
    folder: Path, binds: Mapping[Path, Path] | None = None, disks: Mapping[Path, Path] | None = None
) -> Iterator[Booted]:
    """Boot a machine with these folders of this one, read-only, and these to be written.

    `folder` is for its files, and is unmounted.
    """
    require("systemd-nspawn", "nsenter", "mount")
    require_root("to boot a systemd")
    memory, root = folder / "memory", folder / "root"
    memory.mkdir(parents=True)
    root.mkdir()
    with contextlib.ExitStack() as stack:
        _mount(stack, memory, "-t", "tmpfs", "tmpfs")
        upper, work = memory / "upper", memory / "work"
        upper.mkdir()
        work.mkdir()
        _mount(stack, root, "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "overlay")
        _make_quiet(root)
        arguments = [f"--bind-ro={there}:{name}" for name, there in (binds or {}).items()]
        arguments += [f"--bind={there}:{name}" for name, there in (disks or {}).items()]
        with open(folder / "console.log", "wb") as log:
            process = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--boot", f"--directory={root}", "--register=no", "--keep-unit"),
                    *("--console=pipe", "--timezone=off", "--resolv-conf=off", *arguments, "systemd.unit=basic.target"),
                ],
                # The filter of the container would stand before that of the unit, which is what is tested.
                env={**os.environ, "SYSTEMD_SECCOMP": "0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        stack.callback(_end, process)
        yield Booted(root, _leader(process, folder / "console.log"))


def _mount(stack: contextlib.ExitStack, at: Path, *arguments: str) -> None:
    subprocess.run(["mount", *arguments, at], check=True)
    stack.callback(subprocess.run, ["umount", "--lazy", at], check=True)


def _make_quiet(root: Path) -> None:
    """Leave out what this machine starts at boot, and what belongs to it alone."""
    for folder in (root / "etc/systemd/system").glob("*.wants"):
        shutil.rmtree(folder)
    for name in ("systemd-networkd", "systemd-resolved", "systemd-udevd", "systemd-timesyncd", "systemd-pstore"):
        (root / f"etc/systemd/system/{name}.service").unlink(missing_ok=True)
        (root / f"etc/systemd/system/{name}.service").symlink_to("/dev/null")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    shutil.rmtree(root / "var/log/journal", ignore_errors=True)


def _leader(process: subprocess.Popen[bytes], log: Path) -> int:
    """Return the first process of a machine once it has booted."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        for child in _children(process):
            enter = ["nsenter", "--target", str(child), "--all", "--", "systemctl", "is-system-running"]
            state = subprocess.run(enter, capture_output=True, text=True, check=False).stdout.strip()
            if state in ("running", "degraded"):
                return child
        time.sleep(0.1)
    raise RuntimeError(f"no systemd: {log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    # The first process of the machine has all others with it; that it outlives systemd-nspawn is how it was made.
    for child in _children(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    try:
        process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()


def _children(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
