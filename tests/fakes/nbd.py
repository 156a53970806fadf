"""An NBD server that is well-behaved until a test says otherwise: for what no server that is installed does.

It holds its bytes in memory and speaks fixed newstyle with structured replies and base:allocation, one request at a
time.  `answer` is asked first what to say to a request: bytes are sent as they are, or pieces of them one by one, None
is what a good server says.  `Hangup` ends the connection.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

READ, WRITE, DISCONNECT, FLUSH, ZERO, STATUS = 0, 1, 2, 3, 6, 7
EIO, EINVAL, ENOSPC, EOVERFLOW, ESHUTDOWN = 5, 22, 28, 75, 108

DONE = 1
DATA_CHUNK, STATUS_CHUNK, ERROR_CHUNK = 1, 5, (1 << 15) + 1
_FLAGS = 1 | 1 << 2 | 1 << 6  # flags, FLUSH, WRITE_ZEROES; one connection
_OPTION_REPLY = 0x3E889045565A9
_GO, _STRUCTURED, _CONTEXT = 7, 8, 10
_ACK, _INFO, _META, _UNSUPPORTED = 1, 3, 4, (1 << 31) + 1
_CONTEXT_ID = 1


class Hangup(EOFError):
    """The server closes the connection."""


@dataclass(frozen=True)
class Request:
    """One request.  `payload` is of a write."""

    command: int
    flags: int
    cookie: int
    offset: int
    length: int
    payload: bytes = b""


Answer = Callable[[Request], bytes | Iterable[bytes] | None]


@dataclass
class NbdServer:
    """`requests` is all that was asked, over all connections."""

    data: bytearray
    answer: Answer = lambda request: None
    requests: list[Request] = field(default_factory=list)

    def asked(self, command: int) -> list[Request]:
        """Return the requests of one kind."""
        return [request for request in list(self.requests) if request.command == command]

    def talk(self, connection: socket.socket) -> None:
        """Serve one client until it goes."""
        connection.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        receive(connection, 4)
        self._haggle(connection)
        while True:
            flags, command, cookie, offset, length = struct.unpack(">4xHHQQI", receive(connection, 28))
            payload = receive(connection, length) if command == WRITE else b""
            request = Request(command, flags, cookie, offset, length, payload)
            self.requests.append(request)
            if command == DISCONNECT:
                return
            said = self.answer(request)
            if said is None:
                said = self.good_answer(request)
            with contextlib.suppress(OSError):  # it has gone, and may have said goodbye behind its requests
                for piece in [said] if isinstance(said, bytes) else said:
                    connection.sendall(piece)

    def good_answer(self, request: Request) -> bytes:
        """Do what a request says, and return what a good server says."""
        end = request.offset + request.length
        if request.command == READ:
            data = struct.pack(">Q", request.offset) + bytes(self.data[request.offset : end])
            return chunk(request, DATA_CHUNK, data)
        if request.command == STATUS:
            return chunk(request, STATUS_CHUNK, struct.pack(">III", _CONTEXT_ID, request.length, 0))
        if request.command == WRITE:
            self.data[request.offset : end] = request.payload
        if request.command == ZERO:
            self.data[request.offset : end] = bytes(request.length)
        return _simple(request, 0)

    def _haggle(self, connection: socket.socket) -> None:
        while True:
            option, length = struct.unpack(">8xII", receive(connection, 16))
            receive(connection, length)
            name = struct.pack(">I", _CONTEXT_ID) + b"base:allocation"
            info = struct.pack(">HQH", 0, len(self.data), _FLAGS)
            said = {
                _STRUCTURED: reply(option, _ACK),
                _CONTEXT: reply(option, _META, name) + reply(option, _ACK),
                _GO: reply(option, _INFO, info) + reply(option, _ACK),
            }
            connection.sendall(said.get(option, reply(option, _UNSUPPORTED)))
            if option == _GO:
                return


def chunk(request: Request, kind: int, payload: bytes, *, flags: int = DONE) -> bytes:
    """Return a chunk of a structured reply."""
    return struct.pack(">IHHQI", 0x668E33EF, flags, kind, request.cookie, len(payload)) + payload


def refusal(request: Request, code: int, text: str = "") -> bytes:
    """Return what refuses a request."""
    if request.command == READ or text:
        return chunk(request, ERROR_CHUNK, struct.pack(">IH", code, len(text)) + text.encode())
    return _simple(request, code)


def _simple(request: Request, code: int) -> bytes:
    return struct.pack(">IIQ", 0x67446698, code, request.cookie)


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    """Return a reply to an option."""
    return struct.pack(">QIII", _OPTION_REPLY, option, kind, len(data)) + data


def receive(connection: socket.socket, length: int) -> bytes:
    """Return so many bytes.  Errors: Hangup."""
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise Hangup
        data += part
    return data


@contextlib.contextmanager
def serving(server: NbdServer) -> Iterator[str]:
    """Serve at a socket of its own; yields the URI.  Nothing is left of it afterwards."""
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(Hangup, OSError):
            server.talk(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    with tempfile.TemporaryDirectory(prefix="ntx-test-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "s"
        listener.bind(str(path))
        listener.listen()
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"nbd+unix:///?socket={path}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@contextlib.contextmanager
def slow_to_flush(seconds: float) -> Iterator[str]:
    """Serve a disk of 1 MiB that takes `seconds` for a flush, and no time for anything else; yields the URI."""
    is_over = threading.Event()

    def answer(request: Request) -> None:
        if request.command == FLUSH:
            is_over.wait(seconds)

    with serving(NbdServer(bytearray(1 << 20), answer)) as uri:
        try:
            yield uri
        finally:
            is_over.set()
