"""What a control plane fetches by link: changed regions, page by page; and where it says that it is done.

    GET  /TOKEN/disks/NUMBER/changed/PAGE
    POST /TOKEN/done

The two have tokens of their own.  Whoever has the wrong one is told that there is nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec
import zstandard
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ntxengine.concurrency.completion import run_to_completion, to_thread_joined
from ntxengine.dataplane.extents import ZERO, ExtentFile
from ntxengine.errors import NtxError
from ntxengine.export.ending import Done, Ending
from ntxengine.http_server import HttpServer

PAGE_REGIONS = 10_000

_BODY_LIMIT = 256 * 1024
_BODY_TIMEOUT_S = 30.0
_IDLE_S = 75.0
_ZSTD_LEVEL = 3
_MOST_DIGITS = 10
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
                Route("/{token}/disks/{disk}/changed/{page}", self._page, methods=["GET"]),
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
        number, page = _number(parameters["disk"]), _number(parameters["page"])
        if not _is_same(parameters["token"], self._page_token) or number is None or number >= len(self._disks):
            return _refusal(404, "there is nothing here")
        disk = self._disks[number]
        if page is None or page >= disk.pages:
            return _refusal(404, "there is nothing here")
        content = await to_thread_joined(disk.page, page)
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


def _number(text: str) -> int | None:
    """Return a number of a link, None if it is none: Python makes no int of thousands of digits, but an error."""
    return int(text) if len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit() else None


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


@contextlib.asynccontextmanager
async def serve_links(app: Starlette, listening: socket.socket, *, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    """Serve on a socket that listens; `tls` wants a certificate of clients."""
    server = HttpServer(app, tls=tls, request_s=_IDLE_S, lets_clients_close=True)
    await server.start([listening])
    try:
        yield
    finally:
        await run_to_completion(server.close())
