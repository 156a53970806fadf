"""URLs that are called when a run begins, succeeded or failed for good: for services that miss a call.

A ping is a GET, in a task of its own: no run waits for it, and none fails for it.  It is tried three times; what does
not work is said once, and once more when it works again.  Such a URL is a secret, for whoever knows it can call it: in
messages there is its host alone.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.concurrency.handshake import HandshakeGuard
from ntxengine.errors import PortableError
from ntxengine.prism import Secret

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
WAITS_S = (5.0, 30.0)
"""Before the second and the third try."""
MAX_REDIRECTS = 3
MAX_PENDING = 1000
AT_ONCE = 8

_AGAIN = (408, 425, 429)


@dataclass(frozen=True)
class Pings:
    """The URLs of a job, None for none."""

    start: Secret | None = None
    success: Secret | None = None
    failure: Secret | None = None


class _NotReached(PortableError):
    """A ping that did not arrive: another try may help."""


class _Refused(_NotReached):
    """A ping that did not arrive, and will not."""


class Pinger:
    """Calls URLs beside the runs."""

    def __init__(
        self,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """A `transport` stands in for the network, if one is given."""
        self._transport = transport
        self._sleep = sleep
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: dict[tuple[str, str], str] = {}
        self._is_too_many = False

    def ping(self, job: str, event: str, url: Secret) -> None:
        """Call a URL soon.  Never raises."""
        if len(self._tasks) >= MAX_PENDING:
            if not self._is_too_many:
                log.warning("%d pings wait for their answers: more are left out", MAX_PENDING)
            self._is_too_many = True
            return
        self._is_too_many = False
        task = asyncio.create_task(self._ping(job, event, url), name=f"ping of job {job}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self, *, limit_s: float = 0.0) -> None:
        """Wait so long for what is on its way, and close."""
        if self._tasks and limit_s > 0:
            await asyncio.wait(self._tasks, timeout=limit_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _ping(self, job: str, event: str, url: Secret) -> None:
        key, host = (job, event), _host(url)
        try:
            async with self._places:
                await self._until_reached(url)
        except _NotReached as exc:
            if key not in self._broken:
                log.warning("job %r: the %s ping to %s does not arrive: %s", job, event, host, exc)
            self._broken[key] = host
        except Exception as exc:  # noqa: BLE001  a ping must not end anything
            # Without the text: it may have the URL.
            log.warning("a defect of ntx: the %s ping to %s: unexpected %s", event, host, type(exc).__name__)
        else:
            if self._broken.pop(key, ""):
                log.warning("job %r: the %s ping to %s arrives again", job, event, host)

    async def _until_reached(self, url: Secret) -> None:
        """Errors: _NotReached, after the last try."""
        for wait_s in (*WAITS_S, None):
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await self._call(url)
            except TimeoutError:
                error = _NotReached(f"no answer within {TIMEOUT_S:g} s")
            except _NotReached as exc:
                error = exc
            if wait_s is None or isinstance(error, _Refused):
                raise error
            await self._sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _call(self, url: Secret) -> None:
        client = await self._opened()
        try:
            request = client.build_request("GET", url.reveal(), extensions={"trace": HandshakeGuard()})
            for _ in range(MAX_REDIRECTS + 1):
                # The answer itself is of no use, and may be without an end: its head is all that is read.
                answer = await client.send(request, stream=True)
                await answer.aclose()
                if answer.next_request is None:
                    return _judge(answer.status_code)
                if answer.next_request.url.scheme != request.url.scheme:
                    raise _Refused("it is redirected to another scheme, which is not followed")
                request = answer.next_request
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as exc:
            # Without the cause, and without words that may have the URL in them.
            raise (_Refused if isinstance(exc, httpx.InvalidURL) else _NotReached)(_words(exc)) from None
        raise _Refused(f"it is redirected more than {MAX_REDIRECTS} times")

    async def _opened(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                tls = await to_thread_joined(ssl.create_default_context)
                # The proxy is that of the environment: such services are outside, and workers often are not let out.
                self._client = httpx.AsyncClient(
                    verify=tls,
                    follow_redirects=False,
                    timeout=TIMEOUT_S,
                    transport=self._transport,
                    headers={"User-Agent": "ntxengine"},
                )
            return self._client


def _judge(status: int) -> None:
    if not 200 <= status < 300:
        raise (_NotReached if status >= 500 or status in _AGAIN else _Refused)(f"it answers {status}")


def _words(exc: Exception) -> str:
    """Return what went wrong in words that cannot have the URL in them: those of the system, or the kind of error."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(exc).__name__


def _host(url: Secret) -> str:
    try:
        return urlsplit(url.reveal()).hostname or "?"
    except ValueError:
        return "?"
