"""Ends of a copy that fail: real servers that something is done to, files, and a server of ours for the rest.

Each is a context manager that takes the scene and yields the name of the end.  What happens in the middle of the copy
it leaves in the scene.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import Extents, make
from ntxengine.dataplane.retry import Patience
from ntxengine.dataplane.security import PLAIN, ConnectionOptions
from tests.fakes import between, nbd
from tests.fakes.nbd import NbdServer, Request, refusal, serving
from tests.support.killable import Killable, killable, killable_disk
from tests.support.pki import Pki
from tests.support.servers import nbdkit, qemu_nbd
from tests.tls.servers import certificates, nbdkit_tls

MIB = 1 << 20
SIZE = 4 * MIB
LIMIT_S = 120
"""No copy here takes that long, however busy the machine is."""

Side = Literal["source", "target"]


@dataclass
class Scene:
    """One copy: which end fails, the file that holds its bytes, and what happens in the middle of it.

    `strikes` does not wait for the copy, so that it cannot come too late on a busy machine; `mends` may.  A copy that
    fails although it is tried again `is_tried_once_more`: no time says when that ends.
    """

    side: Side
    folder: Path
    disk: Path
    small_fs: Callable[[str], Path] | None = None
    strikes: Callable[[], None] = lambda: None
    mends: Callable[[], None] = lambda: None
    options: CopyOptions = field(default_factory=lambda: CopyOptions(timeout_s=10, connections=2))
    connection: ConnectionOptions = PLAIN
    is_tried_once_more: bool = False
    checkpoints: Checkpoints = field(default_factory=Checkpoints)

    @property
    def patience(self) -> Patience:
        """Until nothing more was stored for so long, or, by a clock of losses, from one to the next."""
        if self.is_tried_once_more:
            return Patience(1.5, first_wait_s=0.05, clock=itertools.count().__next__)
        return Patience(LIMIT_S, first_wait_s=0.05)

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


def troubled(trouble: Trouble, *options: str, is_tried_once_more: bool = False) -> End:
    """The same, and something happens to it; `{}` in an option is the folder of the test."""

    @contextlib.contextmanager
    def end(scene: Scene) -> Iterator[str]:
        named = [each.format(scene.folder) for each in options]
        filters = [each for each in named if each.startswith("-")]
        rest = [each for each in named if not each.startswith("-")]
        with killable(*filters, "file", str(scene.disk), *rest) as server:
            scene.in_the_middle(lambda: trouble(scene, server))
            scene.is_tried_once_more = is_tried_once_more
            server.start()
            yield server.uri

    return end


def dies_and_comes_back(scene: Scene, server: Killable) -> None:
    server.kill()
    scene.mends = server.start


@contextlib.contextmanager
def stalls_and_comes_back(scene: Scene) -> Iterator[str]:
    with killable_disk(scene.disk) as server:
        scene.in_the_middle(lambda: server.send(signal.SIGSTOP), timeout_s=0.5)
        scene.mends = lambda: server.send(signal.SIGCONT)
        yield server.uri


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


@contextlib.contextmanager
def has_another_export(scene: Scene) -> Iterator[str]:
    with qemu_nbd(scene.disk, "-x", "other") as uri:
        yield uri


def greets(greeting: bytes) -> End:
    """Somebody who takes a connection, says this, and no more."""

    @contextlib.contextmanager
    def end(scene: Scene) -> Iterator[str]:
        scene.options = CopyOptions(timeout_s=10 if greeting else 0.2)
        path = scene.folder / "s"
        with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
            listener.bind(str(path))
            listener.listen()

            def accept() -> None:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    stack.enter_context(connection).sendall(greeting)

            accepting = threading.Thread(target=accept)
            accepting.start()
            yield f"nbd+unix:///?socket={path}"
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()

    return end


def encrypted(way: Callable[[Path, int], OnTheWay], *, is_tried_once_more: bool = False) -> End:
    """An nbdkit with TLS, and somebody on the way who does something in the middle of the copy."""

    @contextlib.contextmanager
    def end(scene: Scene) -> Iterator[str]:
        pki = Pki(scene.folder / "pki")
        scene.connection, scene.is_tried_once_more = certificates(pki, host_name="localhost"), is_tried_once_more
        scene.options = CopyOptions(timeout_s=10, connections=1)
        with nbdkit_tls(pki, "file", str(scene.disk)) as port, way(scene.folder, port) as server:
            scene.strikes = server.strike
            yield server.uri

    return end


class OnTheWay(between.Between):
    """Changes a byte of what the server says next, when told."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self._is_due = False

    def strike(self) -> None:
        self._is_due = True

    def to_client(self, data: bytes) -> bytes:
        if self._is_due:
            self._is_due = False
            return data[:-1] + bytes([data[-1] ^ 1])
        return data


class TakesTlsAwayThen(OnTheWay):
    """And says, when the client comes again, that there is no TLS."""

    _has_begun = False

    def start(self, client: socket.socket, server: socket.socket, request: bytes) -> None:
        if self._has_begun:
            client.sendall(nbd.reply(between.STARTTLS, between.ERR_UNSUP))
        else:
            self._has_begun = True
            super().start(client, server, request)


@contextlib.contextmanager
def has_no_tls(scene: Scene) -> Iterator[str]:
    """It is asked for TLS."""
    scene.connection = certificates(Pki(scene.folder / "pki"), host_name="localhost")
    with nbdkit("file", str(scene.disk)) as uri:
        yield uri.replace("nbd+unix", "nbds+unix")


Played = Callable[[Request, NbdServer], bytes | Iterable[bytes] | None]


def played(
    answer: Played, *, timeout_s: float = 10, flush_timeout_s: float = 10, is_tried_once_more: bool = False
) -> End:
    """A server of ours, which keeps what it stored in the disk."""

    @contextlib.contextmanager
    def end(scene: Scene) -> Iterator[str]:
        scene.options = CopyOptions(timeout_s=timeout_s, flush_timeout_s=flush_timeout_s)
        scene.is_tried_once_more = is_tried_once_more
        server = NbdServer(bytearray(scene.disk.read_bytes()))
        server.answer = lambda request: answer(request, server)
        with serving(server) as uri:
            yield uri
        scene.disk.write_bytes(server.data)

    return end


@contextlib.contextmanager
def is_paused(scene: Scene) -> Iterator[str]:
    """As for a snapshot: it lives, accepts connections, and answers nothing until it goes on."""
    may_answer = threading.Event()
    may_answer.set()

    def wait(request: Request, server: NbdServer) -> None:
        may_answer.wait()

    with played(wait)(scene) as uri:
        scene.in_the_middle(may_answer.clear, timeout_s=0.5)
        scene.mends = may_answer.set
        try:
            yield uri
        finally:
            may_answer.set()


def _moved(request: Request) -> bool:
    return request.command in (nbd.READ, nbd.WRITE)


def _is_second(request: Request, server: NbdServer) -> bool:
    return _moved(request) and sum(_moved(each) for each in list(server.requests)) == 2


def forgets_one(request: Request, server: NbdServer) -> bytes | None:
    """The second request is not answered, and all others are."""
    return b"" if _is_second(request, server) else None


def trickles_one(request: Request, server: NbdServer) -> Iterator[bytes] | None:
    """There is always something to receive of the answer to the second request, and never all of it."""

    def pieces() -> Iterator[bytes]:
        for byte in server.good_answer(request)[:-1]:
            yield bytes([byte])
            time.sleep(0.08)  # a write has 16 bytes: they last longer than the time limit, twice

    return pieces() if _is_second(request, server) else None


def hangs_up_within_one(request: Request, server: NbdServer) -> Iterator[bytes] | None:
    def pieces() -> Iterator[bytes]:
        yield server.good_answer(request)[:-1]
        raise nbd.Hangup

    return pieces() if _is_second(request, server) else None


def refuses_once_with_shutdown(request: Request, server: NbdServer) -> bytes | None:
    return refusal(request, nbd.ESHUTDOWN, "going down") if _is_second(request, server) else None


def knows_another_error(request: Request, server: NbdServer) -> bytes | None:
    return refusal(request, 9999) if _moved(request) else None


def breaks_the_protocol(request: Request, server: NbdServer) -> bytes | None:
    return bytes(32) if _moved(request) else None


def zeroes_half_a_mib_at_once(request: Request, server: NbdServer) -> bytes | None:
    is_long = request.command == nbd.ZERO and request.length > MIB // 2
    return refusal(request, nbd.EOVERFLOW) if is_long else None


def cannot_flush(request: Request, server: NbdServer) -> bytes | None:
    return refusal(request, nbd.EIO) if request.command == nbd.FLUSH else None


def never_flushes(request: Request, server: NbdServer) -> bytes | None:
    return b"" if request.command == nbd.FLUSH else None


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
