"""Changed regions by v4: Prism Central says where and gives a token, a Prism Element computes.

    Prism Central  --- discover-cluster -->  clusterIp, token (15 min, for one API revision)
    Prism Element  --- compute-changed-regions, token as a cookie --> a page, nextOffset ...

The account's password never goes to the Prism Element: its session has none.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ntxengine.errors import (
    CredentialsError,
    NotFoundError,
    PrismAnswerError,
    PrismConnectionError,
    PrismError,
    PrismStatusError,
    PrismTimeout,
)
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Secret
from ntxengine.prism.http.error_body import not_found_as, one_line
from ntxengine.prism.http.parse import ip_address_from
from ntxengine.prism.http.session import Answer, Session
from ntxengine.prism.http.tls import certificate_error
from ntxengine.prism.models import ClusterFacts, DiskPoint, RegionPage, RegionSample
from ntxengine.prism.regions import page_v4, walk
from ntxengine.prism.v4.api import CentralApi, compute_changed_regions, is_revision

TOKEN_LIFE_S = 13 * 60.0
"""A token lives 15 minutes: a new one is fetched with two to spare for the page in work."""

LOOK_TIMEOUT_S = 10.0
"""How long an address that may not be the one is waited for."""

_LAST_TIME_S = 2**40
"""Seconds since 1970: no clock of ours says as much."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]*={0,2}")
_SCOPE = re.compile(r"/api/dataprotection/([^/\s\"',]+)/content\b")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Grant:
    """Where to ask, with what, in which revision, and until when."""

    session: Session
    token: Secret
    revision: str
    good_until: float


class RegionReader:
    """Reads changed regions; keeps one session for each Prism Element that it was sent to."""

    def __init__(self, api: CentralApi, open_session: Callable[[str], Awaitable[Session]], clock: Clock) -> None:
        self._api = api
        self._open_session = open_session
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._silent: set[str] = set()
        self._opening = asyncio.Lock()

    async def aclose(self) -> None:
        """Close the connections to the Prism Elements."""
        for session in self._sessions.values():
            await session.aclose()

    async def pages(self, disk: DiskPoint, reference: DiskPoint | None) -> AsyncIterator[RegionPage]:
        """Yield the pages of what differs between `reference` and `disk`.

        Errors: NotFoundError if one of them is gone; CredentialsError if a new token is refused as well.
        """
        subject = f"disk recovery point {disk.id}" + (f" or its reference {reference.id}" if reference else "")
        with not_found_as(subject):
            grant = await self._discover(disk, reference)

        async def ask(start: int) -> Answer:
            nonlocal grant
            with not_found_as(subject):
                if self._clock.now() >= grant.good_until:
                    grant = await self._discover(disk, reference)
                try:
                    return await self._compute(grant, disk, reference, start)
                except CredentialsError as exc:
                    log.debug("token refused, asking for a new one: %s", exc)
                    grant = await self._discover(disk, reference)
                    return await self._compute(grant, disk, reference, start)

        async for page in walk(ask, page_v4):
            yield page

    async def sample(self, disk: DiskPoint, length: int) -> RegionSample:
        """Return the first page of what is allocated in the first `length` bytes of `disk`."""
        with not_found_as(f"disk recovery point {disk.id}"):
            grant = await self._discover(disk, None)
            answer = await self._compute(grant, disk, None, 0, length)
        page = page_v4(answer.body, start=0, request=answer.request)
        return RegionSample(page, grant.session.name, grant.revision)

    async def reach_element(self, cluster: ClusterFacts, reference: DiskPoint | None) -> None:
        """Ask the Prism Element for any answer: where discovery leads, or else where the cluster says that it is.

        There nobody need answer, since discovery may name another address: that is a warning.  What is wrong with the
        reference itself is not judged here.
        """
        if reference is not None:
            with contextlib.suppress(NotFoundError, PrismStatusError):
                grant = await self._discover(reference, None)
                await _reach(grant.session)
            return
        address = cluster.address
        if not address or address in self._silent:
            return
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await _reach(await self._session_at(address))
        except (PrismConnectionError, PrismTimeout, TimeoutError) as exc:
            if certificate_error(exc) is not None:
                raise
            self._silent.add(address)
            log.warning(
                "%s; changed regions will be asked for at the address that Prism Central names then, and a capture"
                " fails if nobody answers there either",
                exc if isinstance(exc, PrismError) else f"Prism {address}: no answer within {LOOK_TIMEOUT_S:g} s",
            )

    async def _session_at(self, address: str) -> Session:
        async with self._opening:
            if address not in self._sessions:
                with _of_element():
                    self._sessions[address] = await self._open_session(address)
            return self._sessions[address]

    async def _compute(
        self, grant: _Grant, disk: DiskPoint, reference: DiskPoint | None, start: int, length: int | None = None
    ) -> Answer:
        with _of_element():
            return await compute_changed_regions(
                grant.session, grant.revision, grant.token, disk, reference, start, length
            )

    async def _discover(self, disk: DiskPoint, reference: DiskPoint | None) -> _Grant:
        asked_at = self._clock.now()
        info = await self._api.discover_cluster(disk, reference)
        what = f"Prism {self._api.session.name}: discover-cluster"
        address = ip_address_from(info.cluster_ip.text)
        if not address:
            told = one_line(info.cluster_ip.text)
            raise PrismAnswerError(f"{what}: clusterIp is {told!r}, which is no IP address of a Prism Element")
        payload = _payload(info.jwt_token, what)
        return _Grant(
            session=await self._session_at(address),
            token=Secret(info.jwt_token),
            revision=_revision(payload, what) or self._api.revisions.dataprotection,
            good_until=asked_at + _life_s(payload),
        )


async def _reach(session: Session) -> None:
    with _of_element():
        await session.reach()


@contextlib.contextmanager
def _of_element() -> Iterator[None]:
    """Have errors say that they are of a Prism Element that Prism Central named."""
    try:
        yield
    except PrismError as error:
        error.is_of_element = True
        raise


def _payload(token: str, what: str) -> dict[str, Any]:
    """Return what a token says about itself.  Its signature is the Prism Element's to check."""
    if not _TOKEN.fullmatch(token):
        raise PrismAnswerError(f"{what}: jwtToken is no JSON web token")
    middle = token.split(".")[1].rstrip("=")
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (binascii.Error, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise PrismAnswerError(f"{what}: the payload of jwtToken is no JSON object")
    return found


def _revision(payload: dict[str, Any], what: str) -> str | None:
    """Return the revision that the token is good for; None if it names none (then the negotiated one is tried).

    The Prism Element refuses any other (401): a 4.1 Prism Central may hand out a token for 4.0 (nutanix-api, fact 6).
    """
    for key in ("scope", "scp", "aud"):
        value = payload.get(key)
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            match = _SCOPE.search(text) if isinstance(text, str) else None
            if match is not None:
                if not is_revision(match[1]):
                    raise PrismAnswerError(f"{what}: jwtToken is for revision {one_line(match[1])!r}, which is none")
                return match[1]
    return None


def _life_s(payload: dict[str, Any]) -> float:
    """Return for how long to use the token: less than it says, and never longer than TOKEN_LIFE_S."""
    begin, end = payload.get("iat"), payload.get("exp")
    if not (isinstance(begin, int | float) and isinstance(end, int | float)):
        return TOKEN_LIFE_S
    if not all(abs(when) < _LAST_TIME_S for when in (begin, end)):
        return TOKEN_LIFE_S  # an integer in JSON may be longer than a float can be
    return 0.85 * (end - begin) if 0 < end - begin < TOKEN_LIFE_S / 0.85 else TOKEN_LIFE_S
