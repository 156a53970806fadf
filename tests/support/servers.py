"""Real NBD servers and block devices for tests: each is a context manager that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

import pytest

from tests.support.processes import processes

SYSTEM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
"""Where daemons are, also for a user who is not root."""

START_S = 60
"""For a server to come, or to go, on a machine that does much else."""


def require(*tools: str) -> None:
    """Fail, with the remedy, when a tool is missing: tests install what they need and do not skip."""
    missing = [tool for tool in tools if shutil.which(tool, path=SYSTEM_PATH) is None]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} not installed: run scripts/install-packages.sh test")


def skip(reason: str) -> NoReturn:
    """Skip a test that this machine cannot run; in CI, where everything can be installed, it fails."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def require_root(why: str) -> None:
    """Skip a test that needs root."""
    if os.geteuid() != 0:
        skip(f"{why} needs root")


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} does not answer")


@contextlib.contextmanager
def _serving(command: list[str], path: Path) -> Iterator[str]:
    with open(path.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_for(path, process)
        yield f"nbd+unix:///?socket={path}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ntx-test-") as directory:
        yield Path(directory) / "s"


@contextlib.contextmanager
def nbdkit(*arguments: str) -> Iterator[str]:
    """Serve with nbdkit; yields the URI.

    Where clients are killed or close a connection in use, take qemu_nbd() or qemu_exports(): nbdkit 1.32 may abort then
    ("raw_send_socket: Assertion `sock >= 0' failed", as a request ends whose connection another thread has closed).
    """
    require("nbdkit")
    with _socket() as path, _serving(["nbdkit", "-f", "-U", str(path), *arguments], path) as uri:
        yield uri


@contextlib.contextmanager
def qemu_nbd(image: Path | str, *arguments: str, format: str = "raw", shared: int = 8) -> Iterator[str]:
    """Serve an image with qemu-nbd; yields the URI."""
    require("qemu-nbd")
    command = ["qemu-nbd", "-t", "-f", format, "-e", str(shared), *arguments, str(image)]
    with _socket() as path, _serving([*command[:1], "-k", str(path), *command[1:]], path) as uri:
        yield uri


@contextlib.contextmanager
def qemu_exports(files: Mapping[str, Path]) -> Iterator[str]:
    """Serve raw disks by the names of their exports, with one qemu-storage-daemon; yields the URI of the server."""
    require("qemu-storage-daemon")
    with _socket() as path:
        command = ["qemu-storage-daemon", "--nbd-server", f"addr.type=unix,addr.path={path}"]
        for number, (name, file) in enumerate(files.items()):
            command += ["--blockdev", f"driver=file,node-name=disk{number},filename={file}"]
            command += ["--export", f"type=nbd,id=export{number},node-name=disk{number},name={name},writable=on"]
        with _serving(command, path) as uri:
            yield uri


@contextlib.contextmanager
def nbd_server(disk: Path) -> Iterator[str]:
    """Serve a file with the NBD project's own server; yields the URI.  It speaks no structured replies."""
    require("nbd-server")
    with _socket() as path:
        config, pid_file = path.with_name("config"), path.with_name("pid")
        config.write_text(f"[generic]\nunixsock = {path}\n[disk]\nexportname = {disk}\nflush = true\n")
        # It goes into the background: with -d it would serve one client and end.
        subprocess.run(["nbd-server", "-C", str(config), "-p", str(pid_file)], check=True, capture_output=True)
        _wait_until(lambda: path.exists() and pid_file.exists() and pid_file.read_text().strip().isdigit())
        pid = int(pid_file.read_text())
        try:
            yield f"nbd+unix:///disk?socket={path}"
        finally:
            os.kill(pid, signal.SIGTERM)
            _wait_until(lambda: _is_gone(pid))


def _is_gone(pid: int) -> bool:
    """Also where nobody asks how an orphan ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError("nbd-server neither comes nor goes")
        time.sleep(0.01)


@contextlib.contextmanager
def loop_device(image: Path, *arguments: str) -> Iterator[str]:
    """Attach a file as a block device (root only); yields its path."""
    require("losetup")
    require_root("a loop device")
    done = subprocess.run(
        ["losetup", "-f", "--show", *arguments, str(image)], check=True, capture_output=True, text=True
    )
    device = done.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def kill_server(uri: str) -> None:
    """Kill the server behind a URI of ours, as the kernel would: without a word to its clients."""
    path = unquote(uri.split("socket=")[1])
    for process in processes():
        if {path, f"--socket={path}"} & set(process.words):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def qemu_img(*arguments: str) -> str:
    """Run qemu-img and return what it prints."""
    require("qemu-img")
    return subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, text=True).stdout
