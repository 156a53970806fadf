"""What a control plane fetches by link: changed regions, page by page; and where it says that it is done.

    GET  /TOKEN/disks/NUMBER/changed/PAGE
    POST /TOKEN/done

The two have tokens of their own.  Whoever has the wrong one is told that there is nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvicorn
import zstandard
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ntxengine.concurrency.completion import run_to_completion, to_thread_joined
from ntxengine.dataplane.extents import ZERO, ExtentFile
from ntxengine.errors import NtxError, ToolError
from ntxengine.export.ending import Done, Ending

log = logging.getLogger(__name__)

PAGE_REGIONS = 10_000

_BODY_LIMIT = 256 * 1024
_MOST_CLIENTS = 64
_BODY_TIMEOUT_S = 30.0
_IDLE_S = 75
_START_TIMEOUT_S = 10.0
_LAST_ANSWERS_S = 2.0
_ZSTD_LEVEL = 3
_DONE = msgspec.json.Decoder(Done)


@dataclass(frozen=True)
class ChangedDisk:
    """The regions of one disk, in bytes, ascending; `since` is what they are compared with, None: nothing."""

    disk_id: str
    since: str | None
    regions: ExtentFile

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return -(-self.regions.count // PAGE_REGIONS)

    def page(self, number: int) -> bytes:
        """Return a page as JSON.  Blocks."""
        rows = self.regions.read(number * PAGE_REGIONS, PAGE_REGIONS)
        regions = [
            {"offset": offset, "length": length, "type": "zero" if flags & ZERO else "data"}
            for offset, length, flags in rows.tolist()
        ]
        return msgspec.json.encode(
            {
                "version": 1,
                "disk_id": self.disk_id,
                "since": self.since,
                "page": number,
                "pages": self.pages,
                "regions": regions,
            }
        )


class Links:
    """The links of one export, as paths; `app` answers them."""

    def __init__(self, disks: Sequence[ChangedDisk], recovery_point_id: str, ending: Ending) -> None:
        self._disks = disks
        self._recovery_point_id = recovery_point_id
        self._ending = ending
        self._page_token, self._done_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.app = Starlette(
            routes=[
                Route("/{token}/disks/{disk:int}/changed/{page:int}", self._page, methods=["GET"]),
                Route("/{token}/done", self._done, methods=["POST"]),
            ]
        )

    def pages(self, number: int) -> list[str]:
        """Return the paths of the pages of a disk."""
        return [f"/{self._page_token}/disks/{number}/changed/{page}" for page in range(self._disks[number].pages)]

    @property
    def done(self) -> str:
        """The path that "done" is posted to."""
        return f"/{self._done_token}/done"

    async def _page(self, request: Request) -> Response:
        parameters = request.path_params
        if not _is_same(parameters["token"], self._page_token) or parameters["disk"] >= len(self._disks):
            return _refusal(404, "there is nothing here")
        disk = self._disks[parameters["disk"]]
        if parameters["page"] >= disk.pages:
            return _refusal(404, "there is nothing here")
        content = await to_thread_joined(disk.page, parameters["page"])
        headers = {"Vary": "Accept-Encoding", "Cache-Control": "no-store"}
        if takes_zstd(request.headers.get("accept-encoding", "")):
            content = await to_thread_joined(zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress, content)
            headers["Content-Encoding"] = "zstd"
        return Response(content, headers=headers, media_type="application/json")

    async def _done(self, request: Request) -> Response:
        if not _is_same(request.path_params["token"], self._done_token):
            return _refusal(404, "there is nothing here")
        try:
            done = _DONE.decode(await _body(request))
        except (TimeoutError, ClientDisconnect):
            return _refusal(408, "the rest of it did not come")
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
            return _refusal(400, f"it does not fit docs/schema/export-done.json: {exc}")
        if problem := self._problem(done):
            return _refusal(409, problem)
        try:
            is_first = await run_to_completion(self._ending.say(done))
        except NtxError as error:
            return _refusal(500, f"the recovery point could not be kept: {error}")
        if not is_first:
            return _refusal(409, "it is over already, and ended otherwise")
        return JSONResponse({"version": 1, "result": done.result, "recovery_point": self._recovery_point_id})

    def _problem(self, done: Done) -> str:
        if done.recovery_point != self._recovery_point_id:
            return "that is not the recovery point of this export"
        if unknown := set(done.failed_disks) - {disk.disk_id for disk in self._disks}:
            return f"{len(unknown)} of the failed disks are none of this export"
        if done.result == "success" and done.failed_disks:
            return "a success has no failed disks"
        return ""


def takes_zstd(accept_encoding: str) -> bool:
    """Say whether a client takes zstd, by its Accept-Encoding (RFC 9110, 12.5.3)."""
    for part in accept_encoding.split(","):
        name, *parameters = (text.strip().lower() for text in part.split(";"))
        if name == "zstd":
            return not any(_is_zero_weight(text) for text in parameters)
    return False


def _is_zero_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return False
    try:
        return float(value) <= 0
    except ValueError:
        return True


def _is_same(told: str, token: str) -> bool:
    return hmac.compare_digest(told.encode(), token.encode())


def _refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)


async def _body(request: Request) -> bytes:
    """Return the body.  Errors: ValueError (too long), TimeoutError, ClientDisconnect."""
    body = bytearray()
    async with asyncio.timeout(_BODY_TIMEOUT_S):
        async for piece in request.stream():
            body += piece
            if len(body) > _BODY_LIMIT:
                raise ValueError(f"it has more than {_BODY_LIMIT} bytes")
    return bytes(body)


# ------------------------------------------------------------------------------------------------------- serving


@dataclass(frozen=True)
class LinkTls:
    """What a server of links shows, and the CA whose certificates clients must show."""

    ca: Path
    certificate: Path
    key: Path


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to us, and does not wait for long at its end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        if self.server_state.tasks:
            _, late = await asyncio.wait(self.server_state.tasks, timeout=_LAST_ANSWERS_S)
            for task in late:
                task.cancel()
        # The last answer is on its way, perhaps through a tunnel: who has it closes the connection, or has time until
        # then.
        deadline = asyncio.get_running_loop().time() + _LAST_ANSWERS_S
        while self.server_state.connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for connection in self.server_state.connections.copy():
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()


@contextlib.asynccontextmanager
async def serve_links(
    app: Starlette, *, listening: socket.socket | None = None, path: Path | None = None, tls: LinkTls | None = None
) -> AsyncIterator[None]:
    """Serve on a socket that listens, or on a new one at `path`.  Errors: ToolError (it does not begin)."""
    config = uvicorn.Config(
        app,
        uds=None if path is None else str(path),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CLIENTS,
        timeout_keep_alive=_IDLE_S,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        ssl_ca_certs=None if tls is None else str(tls.ca),
        ssl_cert_reqs=2 if tls is not None else 0,  # ssl.CERT_REQUIRED
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(None if listening is None else [listening]))
    try:
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
        while not server.started:
            if running.done() or asyncio.get_running_loop().time() > deadline:
                raise ToolError("the links cannot be served: their server did not begin")
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await run_to_completion(_end(running))


async def _end(running: asyncio.Task[None]) -> None:
    _, late = await asyncio.wait({running}, timeout=4 * _LAST_ANSWERS_S)
    for task in late:
        task.cancel()
        await asyncio.wait({task})
    if not running.cancelled() and (error := running.exception()) is not None:
        log.warning("the server of the links ended badly: %s", error)
