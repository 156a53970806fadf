"""HTTPS to one Prism: the only module that knows httpx.

A session sends basic credentials first and the cookies that Prism then gives; when those run out (401) it sends the
credentials once more.  It limits time and size of every answer, asks again when Prism is overloaded (retry.py),
follows no redirect, and turns whatever goes wrong into one line that names host, request and cause.
"""

from __future__ import annotations

import asyncio
import base64
import http.cookiejar
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from ntxengine import errors
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Endpoint, Secret, authority
from ntxengine.prism.http.error_body import ErrorBody, one_line, read_error_body
from ntxengine.prism.http.hidden_error import hidden_error
from ntxengine.prism.http.limiter import Limiter, api_of
from ntxengine.prism.http.parse import decode
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.units import MIB

T = TypeVar("T")

Transport = httpx.AsyncBaseTransport
"""What requests go through instead of the network, if one is given."""

MAX_ANSWER_SIZE = 64 * MIB
"""Far above any page that we ask for, far below what would hurt."""

TOKEN_COOKIE = "NTNX_IGW_SESSION"  # the one cookie that carries a token of cluster discovery (nutanix-api, fact 6)
_MAX_CONNECTIONS = 16
_NAME_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH

log = logging.getLogger(__name__)

WARN_AT_RETRY = 2
"""The retry (from 0) that a person is told of: one or two are everyday life with rate limits, more is a wait."""

# Their debug records hold header lines, and with them session cookies.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class Request:
    """One call.  `path` holds checked parts only; `is_repeatable` says that executing it twice does no harm.

    `token` stands in for an account, in a session that has none.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    token: Secret | None = None
    is_repeatable: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def api(self) -> str:
        """The call that it is one of, as Prism counts them."""
        return api_of(self.method, self.path)


@dataclass(frozen=True)
class Answer:
    """A good answer (2xx).  `request` names who was asked what, for messages.

    While it is judged: `hidden_status` is what an error with a good status names (hidden_error.py), None if it is none.
    """

    request: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    hidden_status: int | None = None

    @property
    def meant_status(self) -> int:
        """The status that the error in the body names, or else the one that came."""
        return self.hidden_status or self.status

    def decode(self, kind: type[T]) -> T:
        """Return the body as a `kind`, or raise PrismAnswerError."""
        return decode(self.body, kind, request=self.request)

    @property
    def etag(self) -> str:
        """The entity's version for If-Match, which some builds send under a name of their own; empty if none."""
        return self.headers.get("etag") or self.headers.get("x-ntnx-etag") or ""


def tls_context(ca_file: str | None, *, insecure: bool) -> ssl.SSLContext:
    """Return the TLS settings for every connection to this cluster.  Reads the file.

    Errors: OptionsError if `ca_file` cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        cause = (exc.strerror if not isinstance(exc, ssl.SSLError) else None) or "it holds no PEM certificate"
        raise errors.OptionsError(f"the CA file {ca_file!r} cannot be used: {cause}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Session:
    """Connections to one host, with or without an account there.

    Without `account` nothing is sent that the request does not carry itself, and cookies are not kept.
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
    ) -> None:
        self.name = authority(host, port)
        self.clock = clock or Clock()
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._limiter = Limiter(self.clock)
        self._basic = _basic(account) if account else None
        self._username = account.username if account else ""
        self._secrets = _secrets(account)
        self._has_answered = False
        self._use_cookies = True
        self._has_cookie_worked = False
        self._cookie_age = 0
        nothing = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx.AsyncClient(
            base_url=f"https://{self.name}",
            verify=tls,
            cookies=None if account else nothing,
            headers={"User-Agent": "ntxengine", "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            transport=None if transport is None else _Borrowed(transport),
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, request: Request) -> Answer:
        """Send `request` until it is answered or the retry policy ends; return the answer if it is a good one.

        Errors: CredentialsError (401), PrismStatusError (any other no), PrismBusy, PrismTimeout, PrismConnectionError,
                PrismAnswerError (redirect, too large, an error with a good status).
        """
        retry, began = 0, self.clock.now()
        while True:
            headers: Mapping[str, str] = {}
            try:
                answer = await self._ask_once(request)
            except _ConnectionBrokenError as broken:
                error: errors.PrismError = broken.error
                error.__cause__ = broken.__cause__
                retries = self._retry.retries if broken.may_repeat and self._has_answered else 0
                cause = str(error)
            else:
                self._has_answered = True
                if answer.status < 400 and answer.hidden_status is None:
                    return self._checked(answer)
                said = read_error_body(answer.body)
                headers = answer.headers
                retries = self._retry.retries_after(
                    answer.meant_status, is_plain_text=said.is_plain, is_repeatable=request.is_repeatable
                )
                error = self._status_error(answer, said, is_temporary=retries > 0, tries=retry + 1)
                cause = f"{answer.request}: HTTP {answer.meant_status}"
            wait_s = self._retry.wait_s(retry, headers, self.clock.chance())
            if retry >= retries or self.clock.now() + wait_s - began > self._retry.deadline_s:
                raise error
            if isinstance(error, errors.PrismBusy):
                self._limiter.hold(request.api, wait_s)
            level = logging.WARNING if retry == WARN_AT_RETRY else logging.DEBUG
            log.log(level, "%s: again in %.1f s, %d more tries", cause, wait_s, retries - retry)
            await self.clock.sleep(wait_s)
            retry += 1

    async def _ask_once(self, request: Request) -> Answer:
        """Send once, and once more with the credentials if a session cookie was refused."""
        age = self._cookie_age
        sent = self._build(request, use_cookies=self._use_cookies)
        answer = await self._send(sent, request)
        if self._basic is None or "authorization" in sent.headers:
            return answer
        if answer.status != 401:
            self._has_cookie_worked = True
            return answer
        if age == self._cookie_age:
            # Sessions end after 15 minutes.  Cookies that never worked are not the session's: leave them out from now.
            self._use_cookies, self._has_cookie_worked = self._has_cookie_worked, False
            self._client.cookies.clear()
            self._cookie_age += 1
        return await self._send(self._build(request, use_cookies=False), request)

    async def _send(self, sent: httpx.Request, request: Request) -> Answer:
        name = f"Prism {self.name}: {request}"
        try:
            async with self._limiter.turn(request.api), asyncio.timeout(self._timeout_s):
                response = await self._client.send(sent, stream=True)
                try:
                    body = await _read(response, name)
                finally:
                    await response.aclose()
                self._limiter.learn(request.api, response.status_code, response.headers)
        except (httpx.TimeoutException, TimeoutError) as exc:
            raise errors.PrismTimeout(f"{name}: no whole answer within {self._timeout_s:g} s") from exc
        except httpx.DecodingError as exc:
            raise errors.PrismAnswerError(f"{name}: the answer's content encoding is broken") from exc
        except httpx.HTTPError as exc:
            raise self._connection_error(exc, request, name) from exc
        hidden_status = hidden_error(body) if 200 <= response.status_code < 300 else None
        if response.status_code >= 400 or hidden_status is not None:
            body = self._redacted(body, sent)
        return Answer(name, response.status_code, response.headers, body, hidden_status)

    def _build(self, request: Request, *, use_cookies: bool) -> httpx.Request:
        content = None if request.body is None else msgspec.json.encode(request.body)
        headers = dict(request.headers)
        if content is not None:
            headers["Content-Type"] = "application/json"
        # The path is in its final form: parts that need it were quoted where it was made.
        url = f"https://{self.name}{request.path}"
        if request.query:
            url += "?" + "&".join(
                f"{quote(key, safe='$')}={quote(value, safe='')}" for key, value in request.query.items()
            )
        built = self._client.build_request(request.method, url, content=content, headers=headers)
        if not use_cookies:
            built.headers.pop("cookie", None)
        if self._basic is not None and "cookie" not in built.headers:
            built.headers["Authorization"] = self._basic.reveal()
        if self._basic is None and request.token is not None:
            built.headers["Cookie"] = f"{TOKEN_COOKIE}={request.token.reveal()}"
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

    def _status_error(self, answer: Answer, body: ErrorBody, *, is_temporary: bool, tries: int) -> errors.PrismError:
        """Return the error that an answer of 400 or above means, now that we stop asking."""
        status, reason = answer.meant_status, one_line(body.reason)
        is_hidden = answer.hidden_status is not None
        number = f"{answer.status} with an error in its body" if is_hidden else f"{status}"
        said = f"HTTP {number}{f' {reason}' if reason else ''}: {body.text or 'no reason given'}"
        if is_hidden and status not in (408, 429, 503, 504):
            return errors.PrismAnswerError(f"{answer.request}: {said}: not taken for an answer")
        if status == 401:
            who = f"user {one_line(self._username)!r}" if self._basic else "the token of cluster discovery"
            return errors.CredentialsError(f"{answer.request}: {who} was refused: {said}")
        asked = f"{answer.request}: {said}: asked {tries} times"
        if status in (408, 504):
            return errors.PrismTimeout(f"{asked}; try again later")
        if status in (429, 503) or (is_temporary and body.is_plain):
            return errors.PrismBusy(f"{asked}; try again later")
        text = asked if tries > 1 else f"{answer.request}: {said}"
        return errors.PrismStatusError(text, status=status, reason=reason)

    def _connection_error(self, exc: httpx.HTTPError, request: Request, name: str) -> _ConnectionBrokenError:
        """Return what a broken connection means."""
        certificate = _certificate_error(exc)
        if certificate is not None:
            return _ConnectionBrokenError(
                errors.PrismConnectionError(f"Prism {self.name}: its certificate is not trusted: {certificate}"),
                may_repeat=False,
            )
        cause = _system_error(exc) or one_line(str(exc)) or type(exc).__name__
        error = errors.PrismConnectionError(
            f"{name}: no connection: {cause}: check the address, the port and the route"
        )
        if isinstance(exc, httpx.ConnectError):
            return _ConnectionBrokenError(error, may_repeat=True)
        error = errors.PrismConnectionError(f"{name}: the connection broke before the whole answer was here: {cause}")
        return _ConnectionBrokenError(error, may_repeat=request.is_repeatable)

    def _redacted(self, body: bytes, sent: httpx.Request) -> bytes:
        """Return an error body without what we sent as a secret, should it come back to us."""
        cookies = [pair.partition("=")[2].strip() for pair in sent.headers.get("cookie", "").split(";")]
        for secret in [*(secret.reveal() for secret in self._secrets), *cookies]:
            if secret:
                body = body.replace(secret.encode(), b"***")
        return body


class _Borrowed(httpx.AsyncBaseTransport):
    """A transport that several sessions use: closing one of them does not close it for the others."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)


class _ConnectionBrokenError(errors.PortableError):
    """A connection that broke, and whether asking again may help and does no harm."""

    def __init__(self, error: errors.PrismConnectionError, *, may_repeat: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_repeat = may_repeat


async def _read(response: httpx.Response, name: str) -> bytes:
    """Return the whole body, or stop as soon as it is too large."""
    announced = response.headers.get("content-length", "")
    body = bytearray()
    is_too_large = announced.isdigit() and int(announced[:20]) > MAX_ANSWER_SIZE
    if not is_too_large:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_SIZE:
                is_too_large = True
                break
    if is_too_large:
        raise errors.PrismAnswerError(f"{name}: the answer is larger than {MAX_ANSWER_SIZE // MIB} MiB: not read")
    return bytes(body)


def _basic(account: Endpoint) -> Secret:
    pair = f"{account.username}:{account.password.reveal()}".encode()
    return Secret(f"Basic {base64.b64encode(pair).decode()}")


def _secrets(account: Endpoint | None) -> tuple[Secret, ...]:
    if account is None or not account.password.reveal():
        return ()
    return (account.password, Secret(_basic(account).reveal().removeprefix("Basic ")))


def _system_error(exc: BaseException | None) -> str:
    """Return what the system said at the bottom of it all ("Connection refused"); "" if it said nothing."""
    said = ""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno:
            said = os.strerror(exc.errno) if exc.errno > 0 else one_line(exc.strerror or "")
        exc = exc.__cause__ or exc.__context__
    return said


def _certificate_error(exc: BaseException | None) -> str | None:
    """Return why the certificate was refused and what to do, if that is the cause at the bottom."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            why = one_line(exc.verify_message or "it could not be verified")
            if exc.verify_code in _NAME_MISMATCH:
                return f"{why}: use an address that stands in the certificate"
            return f"{why}: name the authority that signed it with --ca-file"
        exc = exc.__cause__ or exc.__context__
    return None
