"""HTTPS to one Prism: the only module that knows httpx.

A session proves who asks (accounts.py, login.py), waits for its turn (limiter.py), limits time and size of every
answer, asks again when Prism is overloaded (retry.py), and turns whatever goes wrong into one line that names host,
request and cause.  A redirect is followed only with the token that came with it: nothing of the account goes along.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import ssl
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import httpx

from ntxengine import errors
from ntxengine.concurrency.handshake import HandshakeGuard
from ntxengine.prism.http.body import MAX_ANSWER_SIZE, read_body
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.cookies import WholeHost, none_kept, secrets_in
from ntxengine.prism.http.endpoint import SNAPSHOT_TIMEOUT_S, Endpoint, authority, check_url
from ntxengine.prism.http.error_body import one_line, read_error_body
from ntxengine.prism.http.hidden_error import hidden_error
from ntxengine.prism.http.limiter import Limiter
from ntxengine.prism.http.login import Login
from ntxengine.prism.http.message import Answer, Request
from ntxengine.prism.http.refusal import status_error, system_error
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.secret import Secret, ToldSecrets, redacted
from ntxengine.prism.http.tls import advice, certificate_error, look_at, tls_context
from ntxengine.prism.http.trust import Trust
from ntxengine.prism.http.watch import Watch

__all__ = ["MAX_ANSWER_SIZE", "Answer", "Request", "Session", "Transport", "tls_context"]

Transport = httpx.AsyncBaseTransport
"""What requests go through instead of the network, if one is given."""

TOKEN_COOKIE = "NTNX_IGW_SESSION"  # the one cookie that carries a token of cluster discovery (nutanix-api, fact 6)
_MAX_CONNECTIONS = 16
_LOOK_TIMEOUT_S = 5.0
_FOLLOWED = (302, 307, 308)
_LEGACY = ("/api/nutanix/", "/PrismGateway/")

log = logging.getLogger(__name__)

WARN_AT_RETRY = 2
"""The retry (from 0) that a person is told of: one or two are everyday life with rate limits, more is a wait."""

# Their debug records hold header lines, and with them session cookies.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Session:
    """Connections to one host, with or without an account there.

    Without `account` nothing is sent that the request does not carry itself, and cookies are not kept.  `trust` is what
    `tls` was made of; `option_prefix` begins the options that a message names; a `watch` hears what answers tell.
    A `transport` stands in for the network; it stays the caller's, who closes it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext,
        *,
        account: Endpoint | None,
        timeout_s: float,
        clock: Clock | None = None,
        retry: RetryPolicy | None = None,
        transport: Transport | None = None,
        trust: Trust | None = None,
        option_prefix: str = "--",
        watch: Watch | None = None,
    ) -> None:
        self.name = authority(host, port)
        self.clock = clock or Clock()
        self._place = host, port
        self.snapshot_timeout_s = account.snapshot_timeout_s if account else SNAPSHOT_TIMEOUT_S
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._limiter = Limiter(self.clock, f"Prism {self.name}")
        self._account = account.account if account else None
        self._login: Login[httpx.Cookies, Answer] = Login()
        self._trust = trust or (account.trust if account else Trust())
        self._option_prefix = option_prefix
        self._watch = watch
        self._has_network = transport is None
        self._has_answered = False
        self._has_told_trouble = False
        self._told = ToldSecrets()
        self._client = httpx.AsyncClient(
            base_url=f"https://{self.name}",
            verify=tls,
            cookies=none_kept(),
            headers={"User-Agent": "ntxengine", "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            transport=None if transport is None else _Borrowed(transport),
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS),
        )

    @property
    def speaks_legacy(self) -> bool:
        """Whether the account can be used for v2 and v3."""
        return self._account is None or self._account.speaks_legacy

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, request: Request) -> Answer:
        """Send `request` until it is answered or the retry policy ends; return the answer if it is a good one.

        Errors: CredentialsError (401), PrismStatusError (any other no), PrismBusy, PrismTimeout, PrismConnectionError,
                PrismAnswerError (redirect, too large, an error with a good status), OptionsError (an API key, and v3).
        """
        if not self.speaks_legacy and request.path.startswith(_LEGACY):
            raise errors.OptionsError(
                f"Prism {self.name}: an API key is for v4 only, and {request} is not: use the key with a Prism Central"
                " that has v4, or a local or directory account"
            )
        retry, began, may_have_been_done = 0, self.clock.now(), False
        while True:
            headers: Mapping[str, str] = {}
            try:
                answer = await self._ask_once(request)
            except _ConnectionBrokenError as broken:
                error: errors.PrismError = broken.error
                error.__cause__ = broken.__cause__
                error.was_sent = broken.was_sent
                retries = self._retry.retries if broken.may_repeat and self._has_answered else 0
                cause, is_unclear = str(error), broken.was_sent
            except errors.PrismError as final:
                final.may_have_been_done = may_have_been_done
                raise
            else:
                self._has_answered = True
                if answer.status < 400 and answer.hidden_status is None:
                    self._has_told_trouble = False
                    return self._checked(answer)
                said = read_error_body(answer.body)
                headers = answer.headers
                retries = self._retry.retries_after(
                    answer.meant_status, is_plain_text=said.is_plain, is_repeatable=request.is_repeatable
                )
                who = self._account.who if self._account else "the token of cluster discovery"
                error = status_error(answer, said, who, is_temporary=retries > 0, tries=retry + 1)
                cause = f"{answer.request}: HTTP {answer.meant_status}"
                is_unclear = self._retry.may_have_been_executed(answer.meant_status)
            wait_s = self._retry.wait_s(retry, headers, self.clock.chance())
            if retry >= retries or self.clock.now() + wait_s - began > self._retry.deadline_s:
                error.may_have_been_done = may_have_been_done
                raise error
            may_have_been_done = may_have_been_done or is_unclear
            if isinstance(error, errors.PrismBusy):
                self._limiter.hold(request.api, wait_s)
            is_told = retry == WARN_AT_RETRY and not self._has_told_trouble  # hundreds may wait for the same
            self._has_told_trouble |= is_told
            level = logging.WARNING if is_told else logging.DEBUG
            log.log(level, "%s: again in %.1f s, %d more tries", cause, wait_s, retries - retry)
            await self.clock.sleep(wait_s)
            retry += 1

    def forget(self, secret: Secret) -> None:
        """Hide a secret that went out in a body no longer: nothing that is asked from now on has to do with it."""
        self._told.forget(secret)

    async def reach(self) -> None:
        """Connect and take any answer, unless there was one already.  Nothing of the account is sent.

        Errors: PrismConnectionError (no connection, or a certificate that is not trusted), PrismTimeout.
        """
        if self._has_answered:
            return
        request = Request("GET", "/")
        try:
            with contextlib.suppress(errors.PrismAnswerError):
                await self._send(self._build(request, httpx.Cookies()), request)
        except _ConnectionBrokenError as broken:
            raise broken.error from broken.__cause__
        self._has_answered = True

    async def _ask_once(self, request: Request) -> Answer:
        """Send once, proving who asks; and once more where a session has ended, or a redirect leads elsewhere."""
        if self._account is None or not self._account.has_sessions:
            answer = await self._send(self._build(request), request)
        else:
            answer = await self._ask_in_session(request)
        if answer.status in _FOLLOWED and request.is_repeatable:
            return await self._follow(answer, request)
        return answer

    async def _ask_in_session(self, request: Request) -> Answer:
        """Send with the cookie of the session; without one, log in, when it is our turn to."""
        login = self._login
        while (refusal := login.refusal(self.clock.now())) is None:
            age, jar = login.age, login.jar
            if jar is not None:
                sent = self._build(request, jar)
                if "cookie" not in sent.headers:
                    login.expired(age)
                    continue
                answer = await self._send(sent, request, jar)
                if not login.has_ended(answer.status, request.api, age, self.clock.now()):
                    login.jar_worked(age)
                    return answer
            elif login.needs_no_line:
                answer = await self._send(self._build(request), request)
                if answer.status not in (401, 403) or login.is_forbidden(answer.status, request.api):
                    return answer
            async with login.line:
                if login.jar is None and login.refusal(self.clock.now()) is None:
                    return await self._log_in(request)
        return dataclasses.replace(refusal, request=self._named(request))

    async def _log_in(self, request: Request) -> Answer:
        """Send with the credentials, and keep the cookies that come.  The caller holds the line."""
        login, jar = self._login, httpx.Cookies(WholeHost())
        answer = await self._send(self._build(request), request, jar)
        if login.may_pass(answer.status, request.api):
            # The password was right a while ago: a directory may have been busy with the login of another program.
            await self.clock.sleep(self._retry.first_wait_s)
            answer = await self._send(self._build(request), request, jar)
        if answer.status == 401:
            login.refuse(answer, self.clock.now())
        elif answer.status == 403:
            login.forbid(request.api)
        elif answer.status not in (408, 429) and answer.status < 500:
            login.good(jar if len(jar) else None, self.clock.now())
        return answer

    async def _follow(self, answer: Answer, request: Request) -> Answer:
        """Ask where a redirect leads, with the token that came with it; without one it stays what it is."""
        token, location = answer.headers.get("x-redirect-token", ""), answer.headers.get("location", "")
        if not token or not _is_plain(token + location):
            return answer
        try:
            target = urlsplit(str(httpx.URL(f"https://{self.name}").join(location)))
            check_url(f"{target.scheme}://{target.netloc}")
        except (ValueError, httpx.InvalidURL, errors.OptionsError):
            return answer
        log.debug("%s: redirected to %s, asking there with its token", answer.request, one_line(target.netloc))
        sent = self._build(request, cookie=token, url=target.geturl())
        return await self._send(sent, request)

    def _named(self, request: Request) -> str:
        return f"Prism {self.name}: {request}"

    async def _send(self, sent: httpx.Request, request: Request, jar: httpx.Cookies | None = None) -> Answer:
        """Send when it is our turn, and return the whole answer; its cookies go into `jar`."""
        name = self._named(request)
        try:
            async with self._limiter.turn(request.api), asyncio.timeout(self._timeout_s):
                began = self.clock.now()
                response = await self._client.send(sent, stream=True)
                try:
                    assert isinstance(response.stream, httpx.AsyncByteStream)
                    # Not by httpx's ways to read it, which unpack without a bound.
                    body = await read_body(response.headers, response.stream, name)
                finally:
                    await response.aclose()
                self._limiter.learn(request.api, response.status_code, response.headers)
                if self._watch is not None:
                    self._watch.heard(request.api, response.status_code, response.headers, self.clock.now() - began)
        except (httpx.TimeoutException, TimeoutError) as exc:
            raise errors.PrismTimeout(f"{name}: no whole answer within {self._timeout_s:g} s") from exc
        except httpx.HTTPError as exc:
            refused = certificate_error(exc)
            if refused is not None:
                raise await self._untrusted(refused) from exc
            raise self._connection_error(exc, request, name) from exc
        if jar is not None and response.status_code not in (401, 403):
            jar.extract_cookies(response)
        hidden_status = hidden_error(body) if 200 <= response.status_code < 300 else None
        is_error = response.status_code >= 400 or hidden_status is not None
        told = self._told.written_in(body) if is_error else self._told.found_in(body)
        body = redacted(body, [*self._secrets(sent, request), *told] if is_error else told)
        return Answer(name, response.status_code, response.headers, body, hidden_status)

    def _build(
        self, request: Request, jar: httpx.Cookies | None = None, *, cookie: str = "", url: str = ""
    ) -> httpx.Request:
        """Return what is sent: with the cookies of `jar`, or with `cookie` alone, or with the proof of the account."""
        content = None if request.body is None else self._told.encode(request.body)
        headers = dict(request.headers)
        if content is not None:
            headers["Content-Type"] = "application/json"
        if not url:
            # The path is in its final form: parts that need it were quoted where it was made.
            url = f"https://{self.name}{request.path}"
            if request.query:
                url += "?" + "&".join(
                    f"{quote(key, safe='$')}={quote(value, safe='')}" for key, value in request.query.items()
                )
        is_elsewhere = bool(cookie)
        if self._account is None and request.token is not None and not is_elsewhere:
            cookie = f"{TOKEN_COOKIE}={request.token.reveal()}"
        extensions: dict[str, object] = {"trace": HandshakeGuard()}
        if self._trust.name is not None and not is_elsewhere:
            extensions["sni_hostname"] = self._trust.name
        built = self._client.build_request(request.method, url, content=content, headers=headers, extensions=extensions)
        if cookie:
            built.headers["Cookie"] = cookie
        elif jar is not None:
            jar.set_cookie_header(built)
        elif self._account is not None:
            built.headers.update(self._account.proof())
        return built

    def _checked(self, answer: Answer) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        try:
            target = one_line(urlsplit(answer.headers.get("location", "")).hostname or "no host")
        except ValueError:
            target = "no host"
        raise errors.PrismAnswerError(
            f"{answer.request}: redirected ({answer.status}) to {target}: not followed,"
            " since that would send credentials on"
        )

    async def _untrusted(self, refused: ssl.SSLCertVerificationError) -> _ConnectionBrokenError:
        """Return what a refused certificate means, and what can be done: for that, look at what the server shows."""
        shown = None
        if self._has_network:
            shown = await look_at(*self._place, self._trust, timeout_s=min(self._timeout_s, _LOOK_TIMEOUT_S))
        text = advice(refused, shown, self._trust, prefix=self._option_prefix)
        error = errors.PrismConnectionError(f"Prism {self.name}: its certificate is not trusted: {text}")
        return _ConnectionBrokenError(error, may_repeat=False, was_sent=False)

    def _connection_error(self, exc: httpx.HTTPError, request: Request, name: str) -> _ConnectionBrokenError:
        """Return what a broken connection means."""
        cause = system_error(exc) or one_line(str(exc)) or type(exc).__name__
        error = errors.PrismConnectionError(
            f"{name}: no connection: {cause}: check the address, the port and the route"
        )
        if isinstance(exc, httpx.ConnectError):
            return _ConnectionBrokenError(error, may_repeat=True, was_sent=False)
        error = errors.PrismConnectionError(f"{name}: the connection broke before the whole answer was here: {cause}")
        return _ConnectionBrokenError(error, may_repeat=request.is_repeatable, was_sent=True)

    def _secrets(self, sent: httpx.Request, request: Request) -> list[str]:
        """Return what proved who asks, should it come back to us."""
        token = () if request.token is None else (request.token.reveal(),)
        cookies = secrets_in(sent.headers.get("cookie", ""))
        return [*(self._account.secrets() if self._account else ()), *token, *cookies]


class _Borrowed(httpx.AsyncBaseTransport):
    """A transport that several sessions use: closing one of them does not close it for the others."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)


class _ConnectionBrokenError(errors.PortableError):
    """A connection that broke, whether asking again may help and does no harm, and whether the request had left."""

    def __init__(self, error: errors.PrismConnectionError, *, may_repeat: bool, was_sent: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_repeat = may_repeat
        self.was_sent = was_sent


def _is_plain(text: str) -> bool:
    """Return whether a header of Prism's may be sent on or followed."""
    return text.isascii() and text.isprintable()
