"""A real NBD server that a test can kill, stop and start again at the same socket."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import require


class Killable:
    """See killable() and killable_disk(): `program` ends with the option that names the socket."""

    def __init__(self, folder: Path, program: tuple[str, ...], arguments: tuple[str, ...]) -> None:
        self._socket = folder / "s"
        self._log = folder / "log"
        self._command = ["setpriv", "--pdeathsig", "KILL", *program, str(self._socket), *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"nbd+unix:///?socket={self._socket}"

    def start(self) -> None:
        """Start it, and wait until it answers.  Blocks."""
        self._socket.unlink(missing_ok=True)
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._command} ended: {self._log.read_text()}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self._socket))
            return True
        return False

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and wait until it is gone.  A second time is allowed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def _killable(program: tuple[str, ...], *arguments: str) -> Iterator[Killable]:
    require(program[0], "setpriv")
    with tempfile.TemporaryDirectory(prefix="ntx-test-") as folder:
        server = Killable(Path(folder), program, arguments)
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def killable(*arguments: str) -> Iterator[Killable]:
    """Yield an nbdkit with these arguments that is not started yet, and is gone afterwards.

    Not for a test whose clients are killed or lose patience: see servers.nbdkit().
    """
    with _killable(("nbdkit", "-f", "-U"), *arguments) as server:
        yield server


@contextlib.contextmanager
def killable_disk(disk: Path) -> Iterator[Killable]:
    """Yield a qemu-nbd that serves a raw disk, and is gone afterwards."""
    with _killable(("qemu-nbd", "-t", "-f", "raw", "-e", "0", "-k"), str(disk)) as server:
        server.start()
        yield server
