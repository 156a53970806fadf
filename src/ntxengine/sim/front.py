"""The front of one endpoint: log, faults, routes, authentication, rate limits, errors."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ntxengine.sim import answers, roles
from ntxengine.sim.answers import ApiError, Json
from ntxengine.sim.auth import COOKIE, Credentials, Directory, Sessions
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.faults import ListFault
from ntxengine.sim.faults.answers import NO_BODY, AnswerFault, set_body
from ntxengine.sim.recorded import restyle
from ntxengine.sim.world import World

_log = logging.getLogger(__name__)

EndpointName = Literal["central", "element"]
Handler = Callable[["Call"], Awaitable[Response]]


class LoggedRequest(NamedTuple):
    """One request that was answered.  No query, no headers, no body: no secrets."""

    endpoint: EndpointName
    method: str
    path: str
    status: int


@dataclass(frozen=True)
class Route:
    """One operation.  `pattern` has `{name}` for a path part; `by_token` leaves authentication to the handler."""

    name: str
    method: str
    pattern: str
    handler: Handler
    by_token: bool = False

    def match(self, path: str) -> dict[str, str] | None:
        """Return the path's parts if it is ours."""
        found = _compiled(self.pattern).fullmatch(path)
        return found.groupdict() if found else None


_PATTERNS: dict[str, re.Pattern[str]] = {}


def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern not in _PATTERNS:
        parts = re.split(r"\{(\w+)\}", pattern)
        text = "".join(re.escape(part) if not i % 2 else f"(?P<{part}>[^/]+)" for i, part in enumerate(parts))
        _PATTERNS[pattern] = re.compile(text + "/?")
    return _PATTERNS[pattern]


@dataclass
class Call:
    """One request on its way through a handler."""

    world: World
    request: Request
    parts: dict[str, str]
    path: str
    endpoint: EndpointName
    cluster: Cluster | None = None
    """Whose Prism Element is asked; None is Prism Central."""

    def list_faults(self) -> list[ListFault]:
        """Return what spoils the list that is asked for."""
        return self.world.config.faults.list_faults(self.endpoint, self.request.method, self.path)

    @property
    def query(self) -> dict[str, str]:
        """The query, decoded; the last value of a name wins."""
        return dict(self.request.query_params)

    async def json(self) -> Json:
        """Return the body: a JSON object.

        Errors: ApiError 415 for another content type, 400 if it is no JSON, 422 (v3) or 400 if it is no object.
        """
        body = await self.request.body()
        kind = self.request.headers.get("content-type", "")
        if not kind.startswith("application/json"):
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE_ERROR", f"Content type {kind!r} is not application/json")
        try:
            value: Any = msgspec.json.decode(body or b"null")
        except msgspec.DecodeError as exc:
            raise ApiError(400, "DESERIALIZATION_FAILED", f"Body is not JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise ApiError(422, "INVALID_REQUEST", f"{value!r} is not of type 'object'")
        return value


class RateLimit:
    """How many requests there were in this second, over all and per operation.

    The clock here is the real one: rates are about the wire, not about the cluster's calendar.
    """

    def __init__(self) -> None:
        self._second = 0
        self._counts: defaultdict[str, int] = defaultdict(int)

    def count(self, name: str) -> tuple[int, int]:
        """Count one request and return how many there were of all and of this one."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._counts.clear()
        self._counts[""] += 1
        self._counts[name] += 1
        return self._counts[""], self._counts[name]


class Front:
    """The ASGI application of one endpoint."""

    def __init__(
        self,
        world: World,
        credentials: Credentials,
        routes: list[Route],
        log: deque[LoggedRequest],
        cluster: Cluster | None = None,
    ) -> None:
        self._name: EndpointName = "central" if cluster is None else "element"
        self._cluster = cluster
        self._world = world
        self.directory = Directory(credentials, world.config.faults.logins)
        self._routes = routes
        self._log = log
        self._sessions = Sessions(world.clock, world.config.limits.session_s)
        self._rates = RateLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = str(scope["path"])
        try:
            response = await self._answer(request, path)
        except Exception:
            _log.exception("simulated %s: %s %s", self._name, request.method, path)
            self._log.append(LoggedRequest(self._name, request.method, path, 500))
            raise
        self._log.append(LoggedRequest(self._name, request.method, path, response.status_code))
        await response(scope, receive, send)

    async def _answer(self, request: Request, path: str) -> Response:
        family = answers.family_of(path)
        faults = self._world.config.faults
        fault = faults.http_fault(self._name, request.method, path)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if fault.executed:
                with contextlib.suppress(ApiError):
                    await self._route(request, path)
            if fault.status and fault.plain:
                return PlainTextResponse("Internal Server Error", fault.status)
            if fault.status:
                return _error(family, path, ApiError(fault.status, "SERVICE_UNAVAILABLE", "Simulated fault"))
        self._world.expire()
        try:
            response = await self._route(request, path)
        except ApiError as exc:
            response = _error(family, path, exc)
        if self._world.config.style == "recorded":
            response = restyle(response, path)
        for change in faults.answer_faults(self._name, request.method, path):
            response = _changed(response, change)
        response.headers["X-Ntnx-Env"] = "pc" if self._name == "central" else "pe"
        product = "pc.7.5.1" if self._name == "central" else "pe.7.5.1"
        response.headers["X-Ntnx-Product"] = product
        response.headers["Date"] = formatdate(time.time() + faults.clock_skew_s.get(self._name, 0), usegmt=True)
        return response

    async def _route(self, request: Request, path: str) -> Response:
        route, parts = self._find(request.method, path)
        cookie = None
        if route is None or not route.by_token:
            cookie = await self._authenticate(request, path)
        if route is None:
            raise ApiError(404, "ENTITY_NOT_FOUND", f"The requested URL {path} was not found on this server")
        if not route.by_token:
            self._check_right(route)
        response = await self._limited(route, Call(self._world, request, parts, path, self._name, self._cluster))
        if cookie is not None:
            response.set_cookie(COOKIE, cookie, path="/", secure=True, httponly=True, samesite=None)
        return response

    def _check_right(self, route: Route) -> None:
        config = self._world.config
        role = config.roles.get(self._name, roles.SUPER_ADMIN)
        if right := roles.lacks(route.name, role, config.faults.lacking_rights):
            message = f"User {config.username} with role {role} lacks the right {right!r}"
            raise ApiError(403, "ACCESS_DENIED", message)

    def _find(self, method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        is_known = False
        for route in self._routes:
            parts = route.match(path)
            if parts is None:
                continue
            if route.method == method:
                return route, parts
            is_known = True
        if is_known:
            raise ApiError(405, "ACTION_NOT_SUPPORTED", f"Method {method} is not allowed for {path}")
        return None, {}

    async def _authenticate(self, request: Request, path: str) -> str | None:
        """Check the caller; return a new session for one who came with a password."""
        authorization, key = request.headers.get("authorization", ""), request.headers.get("x-ntnx-api-key", "")
        status = 401
        if key:
            is_good = hmac.compare_digest(key.encode(), (self._world.config.api_key or "").encode())
            if is_good and self._name == "central" and answers.family_of(path) == "v4":
                return None
        elif authorization:
            status = await self.directory.check(authorization)
            if status == 200:
                return self._sessions.open()
        elif self._sessions.is_open(request.cookies.get(COOKIE, "")):
            return None
        elif self._world.config.faults.logins.ends_as_403:
            status = self.directory.refusal()
        if status == 403:
            raise ApiError(403, "ACCESS_DENIED", "Access denied.")
        raise ApiError(401, "AUTHENTICATION_REQUIRED", "Authentication required.")

    async def _limited(self, route: Route, call: Call) -> Response:
        """Answer with the headers of the rate limits, or refuse."""
        if self._name == "element" or answers.family_of(call.path) != "v4":
            return await route.handler(call)
        limits = self._world.config.limits
        limit = limits.api_rates.get(route.name, limits.api_requests_per_s)
        over_all, of_this = self._rates.count(route.name)
        headers = {
            "X-Ratelimit-Limit": str(limits.requests_per_s),
            "X-Ratelimit-Remaining": str(max(0, limits.requests_per_s - over_all)),
            "X-Ratelimit-Reset": "0",
            "X-Api-Ratelimit-Limit": str(limit),
            "X-Api-Ratelimit-Remaining": str(max(0, limit - of_this)),
            "X-Api-Ratelimit-Refresh-Period-Seconds": "1",
            "X-Api-Ratelimit-Reset": str(int(1000 - time.monotonic() % 1 * 1000)),
        }
        if limits.enforce_rates and (over_all > limits.requests_per_s or of_this > limit):
            response = _error("v4", call.path, ApiError(429, "TOO_MANY_REQUESTS", "Rate limit exceeded"))
        else:
            try:
                response = await route.handler(call)
            except ApiError as exc:
                response = _error("v4", call.path, exc)
        response.headers.update(headers)
        return response


def _changed(response: Response, fault: AnswerFault) -> Response:
    """Return the answer with the fault in it."""
    if not isinstance(response, JSONResponse):
        return response
    body = fault.change(msgspec.json.decode(bytes(response.body)))
    return set_body(response, b"" if body is NO_BODY else msgspec.json.encode(body))


def _error(family: answers.PathFamily, path: str, error: ApiError) -> Response:
    # v4 has no 422: what does not fit the schema is 400 there.
    status = 400 if family == "v4" and error.status == 422 else error.status
    return JSONResponse(answers.error_body(family, path, error), status, headers=error.headers)
