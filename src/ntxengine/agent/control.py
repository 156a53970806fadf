"""What an agent can be told and asked, as HTTP with JSON: the application behind its socket.

    GET  /v1/status [?vms=yes]                                how it is
    GET  /v1/runs [?vm= job= failed=yes since= after= limit=] a page of its history
    GET  /v1/metrics                                          for Prometheus
    POST /v1/run {vm, job}   /v1/pause {subject}   /v1/resume {subject}   /v1/bandwidth {rate}   /v1/reload {}

Whoever may connect may all of it.  What cannot be done is answered as `--json` of a command tells it: class, message
and exit code.  Nobody is believed: bodies have a limit, unknown fields and parameters are refused, and a defect here is
one line in the log and an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ntxengine import __version__
from ntxengine.agent.answers import BandwidthStatus
from ntxengine.agent.asking import MAX_PAGE, Question
from ntxengine.agent.clock import Clock
from ntxengine.agent.documents import run_document
from ntxengine.agent.metrics import CONTENT_TYPE, Metrics
from ntxengine.agent.reading import read_runs
from ntxengine.agent.records import RunState
from ntxengine.agent.scheduler import ALL, Scheduler
from ntxengine.agent.state import State
from ntxengine.agent.status import bandwidth_status, paused_of, status_of
from ntxengine.agent.watch import Watch
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.timetable import parse_timetable
from ntxengine.errors import LockedError, NotFoundError, NtxError, OptionsError, StateError

log = logging.getLogger(__name__)

MAX_BODY = 16 * 1024
MAX_TEXT = 256
"""Of a name, a subject or a rate."""

_USUAL_PAGE = 50
_READERS = 4
"""Pages of the history that are read at a time, each in a thread."""

T = TypeVar("T")


class Controlled(Protocol):
    """The agent, as it is controlled."""

    state: State
    scheduler: Scheduler
    metrics: Metrics
    watch: Watch

    @property
    def folder(self) -> Path: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def bandwidth(self) -> tuple[Bandwidth, str] | None:
        """The limit, and what the file says of it; None if there is none."""
        ...

    async def reread(self) -> int:
        """Use the configuration as it is in the file now; return how many jobs it has.  Errors: NtxError, OSError."""
        ...


class RunOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Run this VM (name or UUID) now, in this job, or in the first that has it."""

    vm: str
    job: str = ""


class SubjectOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Pause, or resume: `all`, `job NAME`, `vm NAME` or `vm UUID`."""

    subject: str = ALL


class BandwidthOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Read no more than this, until a reload: as --bandwidth has it."""

    rate: str


class NoOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing has to be said."""


def control_app(agent: Controlled) -> Starlette:
    """Return the application that controls an agent."""
    control = _Control(agent)
    asked: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "status": control.status,
        "runs": control.runs,
        "metrics": control.metrics,
    }
    told: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "run": control.run,
        "pause": control.pause,
        "resume": control.resume,
        "bandwidth": control.set_bandwidth,
        "reload": control.reload,
    }
    routes = [Route(f"/v1/{name}", _guarded(each), methods=["GET"]) for name, each in asked.items()]
    routes += [Route(f"/v1/{name}", _guarded(each), methods=["POST"]) for name, each in told.items()]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such})


class _Control:
    """The endpoints."""

    def __init__(self, agent: Controlled) -> None:
        self._agent = agent
        self._readers = asyncio.Semaphore(_READERS)

    async def status(self, request: Request) -> Response:
        wanted = _parameters(request, "vms")
        agent = self._agent
        now = agent.clock.now()
        with_vms = _yes("vms", wanted.get("vms", ""))
        fields = status_of(agent.scheduler, agent.state, agent.watch, now, agent.clock.monotonic(), with_vms=with_vms)
        limit = agent.bandwidth
        return _json(
            {
                "version": __version__,
                "now": now.astimezone(UTC).replace(microsecond=0),
                "started_at": agent.started_at,
                "state_folder": str(agent.folder),
                "bandwidth": BandwidthStatus() if limit is None else bandwidth_status(*limit),
                **fields,
            }
        )

    async def runs(self, request: Request) -> Response:
        question = _question(_parameters(request, "vm", "job", "failed", "since", "after", "limit"))
        self._agent.state.flush()
        async with self._readers:
            found, after = await asyncio.to_thread(read_runs, self._agent.folder, question)
        return _json({"runs": [run_document(run) for run in found], "next": after})

    async def metrics(self, request: Request) -> Response:
        _parameters(request)
        return Response(self._agent.metrics.text(), media_type=CONTENT_TYPE)

    async def run(self, request: Request) -> Response:
        order = await _order(request, RunOrder)
        job, vm_id = self._agent.scheduler.ask(order.vm, order.job)
        name = next((vm.name for vm in self._agent.scheduler.listing.vms(job) if vm.id == vm_id), "")
        log.warning("job %r, VM %r: a run was asked for by %s", job, name, _who(request))
        return _json({"job": job, "vm_id": vm_id, "vm_name": name})

    async def pause(self, request: Request) -> Response:
        order = await _order(request, SubjectOrder)
        subject = self._subject(order.subject)
        was_paused = subject in self._agent.state.paused
        self._agent.scheduler.pause(subject)
        log.warning("%s: was paused by %s", subject, _who(request))
        return self._said(subject, was_paused=was_paused)

    async def resume(self, request: Request) -> Response:
        order = await _order(request, SubjectOrder)
        subject = order.subject if order.subject in self._agent.state.paused else self._subject(order.subject)
        was_paused = self._agent.scheduler.resume(subject)
        log.warning("%s: was resumed by %s", subject, _who(request))
        return self._said(subject, was_paused=was_paused)

    def _said(self, subject: str, *, was_paused: bool) -> Response:
        paused = paused_of(self._agent.scheduler, self._agent.state)
        return _json({"subject": subject, "was_paused": was_paused, "paused": paused})

    def _subject(self, text: str) -> str:
        """Return the subject that is meant: of a VM by its name, the one by its UUID.  Errors: OptionsError."""
        kind, _, name = text.partition(" ")
        if kind != "vm":
            return text
        scheduler = self._agent.scheduler
        ids = {vm.id for job in scheduler.jobs for vm in scheduler.listing.vms(job) if name in (vm.id, vm.name)}
        if len(ids) > 1:
            raise OptionsError(f"several VMs are called {name!r}: name one by its UUID")
        return f"vm {ids.pop()}" if ids else text

    async def set_bandwidth(self, request: Request) -> Response:
        order = await _order(request, BandwidthOrder)
        limit = self._agent.bandwidth
        timetable = parse_timetable(order.rate)
        if limit is None:
            raise OptionsError("this agent has no limit on bandwidth that could be changed")
        limit[0].change(timetable)
        log.warning("bandwidth: is %s until a reload, as %s said", timetable, _who(request))
        return _json(bandwidth_status(*limit))

    async def reload(self, request: Request) -> Response:
        await _order(request, NoOrder)
        log.info("a reload was asked for by %s", _who(request))
        return _json({"jobs": await self._agent.reread()})


# ------------------------------------------------------------------------------------------------- what is asked


def _question(given: Mapping[str, str]) -> Question:
    limit = given.get("limit", str(_USUAL_PAGE))
    if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= MAX_PAGE):
        raise OptionsError(f"limit {limit!r}: from 1 to {MAX_PAGE} runs of a page")
    since = None
    if "since" in given:
        try:
            since = datetime.fromisoformat(given["since"])
        except ValueError:
            since = None
        if since is None or since.tzinfo is None:
            raise OptionsError(f"since {given['since']!r}: write RFC 3339, such as 2026-11-30T04:15:00Z")
    return Question(
        vm=given.get("vm", ""),
        job=given.get("job", ""),
        state=RunState.FAILED if _yes("failed", given.get("failed", "")) else None,
        since=since,
        after=given.get("after", ""),
        limit=int(limit),
    )


def _yes(name: str, text: str) -> bool:
    if text not in ("", "yes", "no"):
        raise OptionsError(f"{name} {text!r}: write yes or no")
    return text == "yes"


def _parameters(request: Request, *known: str) -> dict[str, str]:
    """Return the parameters of a request.  Errors: OptionsError."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise OptionsError(f"parameter {name[:80]!r}: there is none of that name; {_listed(known)}")
        if name in found or len(value) > MAX_TEXT:
            raise OptionsError(f"parameter {name!r}: once, and {MAX_TEXT} characters at most")
        found[name] = value
    return found


def _listed(known: tuple[str, ...]) -> str:
    return f"known are {', '.join(known)}" if known else "this takes none"


async def _order(request: Request, kind: type[T]) -> T:
    """Return what the body says; an empty one says nothing.  Errors: OptionsError, BodyTooLarge."""
    _parameters(request)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise BodyTooLarge(f"the body has more than {MAX_BODY} bytes")
    try:
        order = msgspec.json.decode(bytes(body) or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise OptionsError(f"the body is not what is wanted here: {' '.join(str(exc).split())[:200]}") from exc
    for name in kind.__annotations__:
        text = str(vars_of(order)[name])
        if len(text) > MAX_TEXT or not text.isprintable():
            raise OptionsError(f"{name}: one line of {MAX_TEXT} characters at most")
    return order


def vars_of(order: object) -> dict[str, Any]:
    """Return the fields of a Struct by their names."""
    found: dict[str, Any] = msgspec.structs.asdict(order)  # type: ignore[arg-type]
    return found


# ------------------------------------------------------------------------------------------------- what is answered


class BodyTooLarge(OptionsError):
    """A body that nobody wants to read."""


_STATUS_OF = {BodyTooLarge: 413, OptionsError: 400, NotFoundError: 404, LockedError: 409, StateError: 503}


def _guarded(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Make one answer of whatever goes wrong."""

    async def guarded(request: Request) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except NtxError as exc:
            status = next((code for kind, code in _STATUS_OF.items() if isinstance(exc, kind)), 500)
            return _refused(status, exc, " ".join(str(exc).split()), exc.exit_code)
        except OSError as exc:
            return _refused(500, exc, f"{exc.filename or 'the agent'}: {exc.strerror or exc}", 1)
        except Exception as exc:
            text = f"a defect of ntx: unexpected {type(exc).__name__}"
            log.error("%s: %s: %s", _path(request), text, exc)
            log.debug("the traceback of the error", exc_info=exc)
            return _refused(500, exc, f"{text}; the log of the agent tells more", 1)

    return guarded


def _path(request: Request) -> str:
    """Return what was asked for.  Its URL has the path of the socket before it, where no Host is said."""
    return str(request.scope["path"])


def _refused(status: int, error: BaseException, message: str, exit_code: int) -> Response:
    fields: dict[str, object] = {"class": type(error).__name__, "message": message, "exit_code": exit_code}
    problems = getattr(error, "problems", None)
    if isinstance(problems, tuple | list):
        fields["problems"] = [str(each) for each in problems]
    return _json({"error": fields}, status)


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: f"{_path(request)[:80]!r}: the agent knows nothing of that", 405: f"{request.method}: not of this"}
    message = said.get(error.status_code, str(error.detail))
    kind = NotFoundError if error.status_code == 404 else OptionsError
    response = _refused(error.status_code, kind(message), message, kind.exit_code)
    response.headers.update(error.headers or {})
    return response


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _who(request: Request) -> str:
    """Return who told it, in words."""
    return f"{request.client.host}, process {request.client.port}" if request.client else "somebody"
