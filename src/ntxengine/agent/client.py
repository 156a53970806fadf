"""Speaking with an agent by its socket, from a command: one question, one answer, within a time limit.

Whoever listens there may be anything: what it answers has a limit in size and time, and is believed only where it is
what an agent says.
"""

from __future__ import annotations

import errno
import grp
import http.client
import io
import json
import pwd
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from ntxengine.agent.asking import MAX_PAGE
from ntxengine.errors import (
    AgentError,
    AgentRefused,
    AgentSilent,
    LockedError,
    NotFoundError,
    NtxError,
    OptionsError,
    StateError,
)

TIMEOUT_S = 10.0
MAX_ANSWER = 64 * 1024**2
_CHUNK = 256 * 1024

T = TypeVar("T")


class AgentClient:
    """The agent behind a socket.  Each question is a connection of its own.

    Errors of each: NotFoundError (no agent is there), AgentRefused, AgentSilent, AgentError; and what the agent
    itself says is wrong, in the class that it names.
    """

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def get(self, name: str, **parameters: str) -> Any:
        """Ask for a document; parameters that are "" are left out."""
        said = urlencode({key: value for key, value in parameters.items() if value})
        return self._ask("GET", f"/v1/{name}{'?' if said else ''}{said}")

    def post(self, name: str, order: Mapping[str, str]) -> Any:
        """Tell it something; return what it answers."""
        return self._ask("POST", f"/v1/{name}", json.dumps(order).encode())

    def status(self, *, with_vms: bool = False) -> Any:
        """Return the document of its status."""
        return self.get("status", vms="yes" if with_vms else "")

    def runs(self, *, limit: int | None = None, **wanted: str) -> Iterator[dict[str, Any]]:
        """Yield documents of runs, newest first, a page at a time; `limit` of them, None for all."""
        after, left = "", limit
        while left is None or left > 0:
            page = self.get("runs", after=after, limit=str(min(left or MAX_PAGE, MAX_PAGE)), **wanted)
            found = page.get("runs") if isinstance(page, dict) else None
            if not isinstance(found, list):
                raise self.odd("no list of runs")
            yield from found
            left = None if left is None else left - len(found)
            after = str(page.get("next") or "")
            if not after or not found:
                return

    def understood(self, document: object, kind: type[T]) -> T:
        """Return a document as what it is.  Errors: AgentError."""
        try:
            return msgspec.convert(document, kind)
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise self.odd(str(exc)) from exc

    def _ask(self, method: str, target: str, body: bytes = b"") -> Any:
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: ntx\r\nConnection: close\r\nAccept: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            answered = self._exchange(head.encode() + body)
        except AgentSilent as exc:
            raise AgentSilent(f"{exc}{_MAY_BE_DONE if method == 'POST' else ''}") from exc
        status, text = _parsed(answered, self)
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise self.odd(f"HTTP {status}, and no JSON") from exc
        if status != 200:
            raise self._error(status, answer)
        return answer

    def _exchange(self, request: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            try:
                connection.settimeout(self._timeout_s)
                connection.connect(str(self.path))
                connection.sendall(request)
                return self._received(connection, deadline)
            except TimeoutError as exc:
                raise AgentSilent(
                    f"the agent at {self.path} does not answer within {self._timeout_s:g} s: it may be stopping, or be "
                    f"stuck; try again, or look at its log"
                ) from exc
            except OSError as exc:
                raise self._unreachable(exc) from exc

    def _received(self, connection: socket.socket, deadline: float) -> bytes:
        answer = bytearray()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            part = connection.recv(_CHUNK)
            if not part:
                return bytes(answer)
            answer += part
            if len(answer) > MAX_ANSWER:
                raise self.odd(f"more than {MAX_ANSWER} bytes")

    def _unreachable(self, cause: OSError) -> NtxError:
        path = self.path
        if cause.errno in (errno.EACCES, errno.EPERM):
            return AgentRefused(f"{path}: this user may not speak with the agent: {_who_may(path)}")
        if cause.errno == errno.EAGAIN:
            return AgentSilent(f"{path}: too many wait for this agent: try again")
        if cause.errno in (errno.ECONNRESET, errno.EPIPE):
            return AgentSilent(f"{path}: the agent closed the connection: it ends, or has too many of them; try again")
        if isinstance(cause, FileNotFoundError | NotADirectoryError):
            why = "there is no such socket"
        elif isinstance(cause, ConnectionRefusedError):
            why = "nobody listens there"
        else:
            why = f"it cannot be reached: {cause.strerror or cause}"
        return NotFoundError(
            f"no agent at {path}: {why}; is `ntx agent` running, and is agent.socket of its file this one (--socket)?"
        )

    def _error(self, status: int, answer: object) -> NtxError:
        """Return the error that the agent tells of, in its class."""
        fields = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(fields, dict) or not isinstance(fields.get("message"), str):
            return self.odd(f"HTTP {status}")
        kind = _KINDS.get(str(fields.get("class"))) or _KINDS.get(fields.get("exit_code")) or NtxError
        return kind(f"the agent: {fields['message']}")

    def odd(self, what: str) -> AgentError:
        """Return the error for an answer that is not what an agent says."""
        return AgentError(
            f"{self.path}: what answers is no agent of this version of ntx ({' '.join(what.split())[:200]}): "
            f"use the ntx that the agent is of, or name another socket"
        )


_MAY_BE_DONE = "; it may still do what it was told: ntx status shows it"

_KINDS: dict[object, type[NtxError]] = {
    "StateError": StateError,
    2: OptionsError,
    10: NotFoundError,
    11: LockedError,
    12: AgentRefused,
    75: AgentSilent,
}
"""By the class that the agent names, or else its exit code."""


class _Received:
    """Bytes that were received, as the socket that http.client wants."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parsed(answer: bytes, client: AgentClient) -> tuple[int, bytes]:
    if not answer:
        raise AgentSilent(f"{client.path}: the agent closed the connection: it ends, or has too many; try again")
    response = http.client.HTTPResponse(_Received(answer))  # type: ignore[arg-type]
    try:
        response.begin()
        return response.status, response.read()
    except (http.client.HTTPException, ValueError) as exc:
        raise client.odd("no HTTP") from exc


def _who_may(path: Path) -> str:
    """Return who may connect, as far as that can be seen."""
    try:
        found = path.stat()
    except OSError:
        return "use sudo, or be of the group that may (agent.socket_group)"
    try:
        user, group = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        user, group = str(found.st_uid), str(found.st_gid)
    return f"{stat.filemode(found.st_mode)} {user}:{group}; use sudo, or be of the group that may (agent.socket_group)"
