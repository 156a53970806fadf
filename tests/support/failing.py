"""Ends of a copy that fail: real servers that something is done to, files, and a server of ours for the rest.

Each is a context manager that takes the scene and yields the name of the end.  What happens in the middle of the copy
it leaves in the scene.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import Extents, make
from tests.fakes import nbd
from tests.fakes.nbd import NbdServer, Request, refusal, serving
from tests.support.killable import Killable, killable
from tests.support.servers import nbdkit

MIB = 1 << 20
SIZE = 4 * MIB
LIMIT_S = 30

Side = Literal["source", "target"]


@dataclass
class Scene:
    """One copy: which end fails, the file that holds its bytes, and what happens in the middle of it.

    `strikes` does not wait for the copy, so that it cannot come too late on a busy machine; `mends` may.
    """

    side: Side
    folder: Path
    disk: Path
    small_fs: Callable[[str], Path] | None = None
    strikes: Callable[[], None] = lambda: None
    mends: Callable[[], None] = lambda: None
    options: CopyOptions = field(default_factory=lambda: CopyOptions(timeout_s=10, connections=2))
    patience_s: float = LIMIT_S
    checkpoints: Checkpoints = field(default_factory=Checkpoints)

    def in_the_middle(self, strikes: Callable[[], None], *, timeout_s: float = 10) -> None:
        """Let something happen, and copy so slowly that the copy is not over by then."""
        self.strikes = strikes
        self.options = CopyOptions(
            timeout_s=timeout_s, flush_timeout_s=timeout_s, connections=2, bandwidth=2 * MIB, request_size=MIB // 16
        )

    def windows(self) -> Iterator[Extents]:
        """What to copy.  By the time that it asks for the second part, the copy is at work on the first."""
        yield make([(0, SIZE // 2, 0)])
        strikes, self.strikes = self.strikes, lambda: None
        strikes()
        yield make([(SIZE // 2, SIZE // 2, 0)])

    async def mend(self) -> None:
        """Once the copy has lost its connection, if it does."""
        while self.checkpoints.retries == 0:
            await asyncio.sleep(0.01)
        self.mends()


End = Callable[[Scene], AbstractContextManager[str]]
"""Makes the end that fails; yields its name."""

Trouble = Callable[[Scene, Killable], None]


# ------------------------------------------------------------------------------------------------ ends that fail


def served(*options: str) -> End:
    """An nbdkit with filters that serves the disk."""
    filters = [each for each in options if each.startswith("-")]
    rest = [each for each in options if not each.startswith("-")]
    return lambda scene: nbdkit(*filters, "file", str(scene.disk), *rest)


def troubled(trouble: Trouble, *options: str, timeout_s: float = 10, patience_s: float = LIMIT_S) -> End:
    """The same, and something happens to it; `{}` in an option is the folder of the test."""

    @contextlib.contextmanager
    def end(scene: Scene) -> Iterator[str]:
        named = [each.format(scene.folder) for each in options]
        filters = [each for each in named if each.startswith("-")]
        rest = [each for each in named if not each.startswith("-")]
        with killable(*filters, "file", str(scene.disk), *rest) as server:
            scene.in_the_middle(lambda: trouble(scene, server), timeout_s=timeout_s)
            scene.patience_s = patience_s
            server.start()
            yield server.uri

    return end


def dies_and_comes_back(scene: Scene, server: Killable) -> None:
    server.kill()
    scene.mends = server.start


def stalls_and_comes_back(scene: Scene, server: Killable) -> None:
    server.send(signal.SIGSTOP)
    scene.mends = lambda: server.send(signal.SIGCONT)


def is_paused(scene: Scene, server: Killable) -> None:
    """By a filter, as for a snapshot: the server lives and accepts connections, and answers nothing."""
    _command(scene, b"p")
    scene.mends = lambda: _command(scene, b"r")


def _command(scene: Scene, command: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(scene.folder / "control"))
        control.sendall(command)
        assert control.recv(1) == command.upper()


def stays_away(scene: Scene, server: Killable) -> None:
    server.kill()


def is_told_to_end(scene: Scene, server: Killable) -> None:
    """And does so when its clients have gone; it takes no new ones."""
    (scene.folder / "stop").touch()


def shuts_down_and_comes_back(scene: Scene, server: Killable) -> None:
    trigger = scene.folder / "trigger"
    trigger.touch()
    scene.mends = trigger.unlink


def is_not_there(scene: Scene) -> AbstractContextManager[str]:
    return nullcontext(f"nbd+unix:///?socket={scene.folder}/nobody")


def played(answer: Callable[[Request, NbdServer], bytes | None], *, timeout_s: float = 10) -> End:
    """A server of ours, which keeps what it stored in the disk."""

    @contextlib.contextmanager
    def end(scene: Scene) -> Iterator[str]:
        scene.options = CopyOptions(timeout_s=timeout_s)
        server = NbdServer(bytearray(scene.disk.read_bytes()))
        server.answer = lambda request: answer(request, server)
        with serving(server) as uri:
            yield uri
        scene.disk.write_bytes(server.data)

    return end


def _moved(request: Request) -> bool:
    return request.command in (nbd.READ, nbd.WRITE)


def forgets_one(request: Request, server: NbdServer) -> bytes | None:
    """The second request is not answered, and all others are."""
    moved = [each for each in list(server.requests) if _moved(each)]
    return b"" if _moved(request) and len(moved) == 2 else None


def refuses_once_with_shutdown(request: Request, server: NbdServer) -> bytes | None:
    moved = [each for each in list(server.requests) if _moved(each)]
    if _moved(request) and len(moved) == 2:
        return refusal(request, nbd.ESHUTDOWN, "going down")
    return None


def knows_another_error(request: Request, server: NbdServer) -> bytes | None:
    return refusal(request, 9999) if _moved(request) else None


def breaks_the_protocol(request: Request, server: NbdServer) -> bytes | None:
    return bytes(32) if _moved(request) else None


def zeroes_half_a_mib_at_once(request: Request, server: NbdServer) -> bytes | None:
    is_long = request.command == nbd.ZERO and request.length > MIB // 2
    return refusal(request, nbd.EOVERFLOW) if is_long else None


def cannot_flush(request: Request, server: NbdServer) -> bytes | None:
    return refusal(request, nbd.EIO) if request.command == nbd.FLUSH else None


def flips_a_bit(request: Request, server: NbdServer) -> bytes | None:
    """Where data lies, in what is read for the second time or later."""
    before = [each for each in list(server.requests)[:-1] if each.command == nbd.READ and each.offset == request.offset]
    if request.command != nbd.READ or (not before and not server.asked(nbd.WRITE)):
        return None
    data = bytearray(server.good_answer(request))
    data[-1] ^= 1
    return bytes(data)


@contextlib.contextmanager
def is_cut(scene: Scene) -> Iterator[str]:
    scene.in_the_middle(lambda: os.truncate(scene.disk, SIZE // 2))
    yield str(scene.disk)


@contextlib.contextmanager
def fills_up(scene: Scene) -> Iterator[str]:
    assert scene.small_fs is not None
    yield str(scene.small_fs("512k") / "disk")


@contextlib.contextmanager
def is_too_small(scene: Scene) -> Iterator[str]:
    os.truncate(scene.disk, SIZE // 2)
    with nbdkit("file", str(scene.disk)) as uri:
        yield uri
