"""Somebody between an NBD client and its server, who reads and changes what passes in the clear.

    client <--unix socket--> Between <--TCP--> server

Each kind of attack is a small class that overrides one method.  What the client says before TLS is kept in `seen`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes.nbd import receive, reply

FIXED_NEWSTYLE, NO_ZEROES = 1, 2
STARTTLS = 5
STRUCTURED_REPLY = 8
ACK = 1
ERR_UNSUP = (1 << 31) + 1
OPTION_MAGIC = 0x49484156454F5054

_PIECE = 65536


def option(number: int, data: bytes = b"") -> bytes:
    """Return an option as a client sends it."""
    return struct.pack(">QII", OPTION_MAGIC, number, len(data)) + data


class Between:
    """Passes everything on.  Serves one connection after the other on a unix socket."""

    def __init__(self, folder: Path, port: int) -> None:
        self.path = folder / "between"
        self.seen = b""
        self._port = port
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._listener.close()
        assert not self._thread.is_alive()

    @property
    def uri(self) -> str:
        return f"nbds+unix:///?socket={self.path}"

    # ------------------------------------------------------------------------------------------- to override

    def greeting(self, data: bytes) -> bytes:
        """Return what the client gets for the server's greeting, of 18 bytes."""
        return data

    def start(self, client: socket.socket, server: socket.socket, request: bytes) -> None:
        """Deal with the first option of the client."""
        server.sendall(request)

    def to_client(self, data: bytes) -> bytes:
        """Return what the client gets for what the server sends after the first option; b"": the end."""
        return data

    # ----------------------------------------------------------------------------------------------- passing

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(("127.0.0.1", self._port)) as server:
                    with contextlib.suppress(OSError, EOFError):
                        self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        client.sendall(self.greeting(receive(server, 18)))
        flags = self._hear(client, 4)
        server.sendall(flags)
        header = self._hear(client, 16)
        self.start(client, server, header + self._hear(client, struct.unpack(">I", header[12:])[0]))
        up = threading.Thread(target=self._pass_up, args=(client, server))
        up.start()
        try:
            while data := self.to_client(server.recv(_PIECE)):
                client.sendall(data)
        finally:
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            up.join()

    def _pass_up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_PIECE):
                self.seen += data[:_PIECE]
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _hear(self, client: socket.socket, length: int) -> bytes:
        data = receive(client, length)
        self.seen += data
        return data


class TakesOptionsAway(Between):
    """Clears the flag without which there are no options, as for CVE-2019-14842."""

    def greeting(self, data: bytes) -> bytes:
        return data[:16] + struct.pack(">H", struct.unpack(">H", data[16:])[0] & ~FIXED_NEWSTYLE)


class WantsZeroes(Between):
    """Clears the flag by which the two ends do without 124 zeros, which nothing protects."""

    def greeting(self, data: bytes) -> bytes:
        return data[:16] + struct.pack(">H", struct.unpack(">H", data[16:])[0] & ~NO_ZEROES)


class SaysNo(Between):
    """Tells the client that there is no TLS."""

    def start(self, client: socket.socket, server: socket.socket, request: bytes) -> None:
        client.sendall(reply(STARTTLS, ERR_UNSUP))


class SaysYes(Between):
    """Tells the client to start TLS, and goes on in the clear."""

    def start(self, client: socket.socket, server: socket.socket, request: bytes) -> None:
        client.sendall(reply(STARTTLS, ACK))
        self._hear(client, 5)
        client.sendall(reply(STRUCTURED_REPLY, ACK))
        raise EOFError


class AnswersAhead(Between):
    """Answers, before TLS, an option that will only be asked within it."""

    def start(self, client: socket.socket, server: socket.socket, request: bytes) -> None:
        client.sendall(reply(STRUCTURED_REPLY, ACK))
        server.sendall(request)


class AddsBehindYes(Between):
    """Puts an answer behind the server's, in one piece with it, before TLS."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        self._is_first = True

    def to_client(self, data: bytes) -> bytes:
        if self._is_first:
            self._is_first = False
            return data + reply(STRUCTURED_REPLY, ACK)
        return data


class AsksAhead(Between):
    """Asks the server for an option before TLS, and keeps the answer to itself, as for CVE-2021-3716."""

    def start(self, client: socket.socket, server: socket.socket, request: bytes) -> None:
        server.sendall(option(STRUCTURED_REPLY))
        receive(server, 20)
        server.sendall(request)


class ChangesAByte(Between):
    """Changes one byte of what the server sends, behind the first `after` bytes."""

    def __init__(self, folder: Path, port: int, after: int) -> None:
        super().__init__(folder, port)
        self._left = after

    def to_client(self, data: bytes) -> bytes:
        if 0 <= self._left < len(data):
            data = data[: self._left] + bytes([data[self._left] ^ 1]) + data[self._left + 1 :]
            self._left = -1
        elif self._left >= 0:
            self._left -= len(data)
        return data


class CutsOff(Between):
    """Ends the connection without a word behind the first `after` bytes of the server."""

    def __init__(self, folder: Path, port: int, after: int) -> None:
        super().__init__(folder, port)
        self._left = after

    def to_client(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data if self._left > 0 else b""


class KnowsNoGo(Between):
    """The server itself: it has TLS, and no option but that."""

    def __init__(self, folder: Path, context: ssl.SSLContext) -> None:
        super().__init__(folder, 0)
        self._context = context

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, contextlib.suppress(EOFError):
                client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", FIXED_NEWSTYLE))
                receive(client, 20)
                client.sendall(reply(STARTTLS, ACK))
                with self._context.wrap_socket(client, server_side=True) as secure:
                    while True:
                        number, length = struct.unpack(">8xII", receive(secure, 16))
                        receive(secure, length)
                        secure.sendall(reply(number, ERR_UNSUP))
