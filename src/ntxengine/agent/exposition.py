"""The metrics for Prometheus, and whether the agent is alive, as HTTP: the application behind `agent.metrics.listen`.

    GET /metrics      only with the token, if there is one (Authorization: Bearer TOKEN)
    GET /healthz      `ok`, for anybody: it tells nothing else

The token is read from its file for each question, so one that was rotated holds at once.  Where the file cannot be
read, nobody is let in.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ntxengine.agent.metrics import CONTENT_TYPE
from ntxengine.errors import OptionsError
from ntxengine.files.secret_file import read_secret_file

log = logging.getLogger(__name__)

WHAT = "agent.metrics.token_file"


def metrics_app(text: Callable[[], bytes], token_file: Callable[[], Path | None]) -> Starlette:
    """Return the application that tells `text` to whoever has the token in `token_file`; None: to anybody."""
    guard = _Guard(token_file)

    async def metrics(request: Request) -> Response:
        if not guard.lets_in(request):
            return PlainTextResponse("unauthorized\n", 401, {"WWW-Authenticate": "Bearer"})
        return Response(text(), media_type=CONTENT_TYPE)

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    routes = [Route("/metrics", metrics, methods=["GET"]), Route("/healthz", alive, methods=["GET"])]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such})


class _Guard:
    """Compares tokens, and says once what is wrong with the file."""

    def __init__(self, token_file: Callable[[], Path | None]) -> None:
        self._token_file = token_file
        self._problem = ""

    def lets_in(self, request: Request) -> bool:
        file = self._token_file()
        if file is None:
            return True
        try:
            expected = read_secret_file(file, WHAT).text
        except OptionsError as exc:
            self._say(str(exc))
            return False
        self._say("")
        given = request.headers.getlist("authorization")
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        # Digests are of one length: the time that it takes tells nothing of the token.
        is_same = hmac.compare_digest(_digest(token.strip().encode("latin-1")), _digest(expected.encode()))
        return is_same and kind.lower() == "bearer"

    def _say(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.error("%s: nobody can read the metrics", problem)
        elif self._problem and not problem:
            log.warning("%s can be read again", WHAT)
        self._problem = problem


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


async def _no_such(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)
