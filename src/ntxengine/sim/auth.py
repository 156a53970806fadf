"""Who may call: basic authentication, session cookies, and the narrow token that discover-cluster hands out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ntxengine.sim.faults.logins import LoginFaults

COOKIE = "NTNX_IGW_SESSION"

TokenState = Literal["valid", "expired", "foreign"]


@dataclass(frozen=True)
class Credentials:
    """One account of one endpoint."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, <password>)"

    def matches(self, authorization: str) -> bool:
        """Say if a basic Authorization header is ours."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(value.strip(), validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, f"{self.username}:{self.password}".encode())


class Directory:
    """Checks the logins of one endpoint, as its faults say."""

    def __init__(self, credentials: Credentials, faults: LoginFaults) -> None:
        self._credentials = credentials
        self._faults = faults
        self._under_way = 0
        self._wrong = 0
        self._refusals = 0
        self.logins = 0

    async def check(self, authorization: str) -> int:
        """Return 200 if the login is good, else the status that refuses it."""
        self.logins += 1
        self._under_way += 1
        is_parallel = self._under_way > 1
        try:
            await asyncio.sleep(self._faults.takes_s)
        finally:
            self._under_way -= 1
        if self._faults.refuses_parallel and is_parallel:
            return self.refusal()
        if self._faults.locks_after and self._wrong >= self._faults.locks_after:
            return 401
        if self._credentials.matches(authorization):
            return 200
        self._wrong += 1
        return 401

    def refusal(self) -> int:
        """Return 401 and 403 in turn, as a directory does that is in trouble."""
        self._refusals += 1
        return 401 if self._refusals % 2 else 403

    @property
    def is_locked(self) -> bool:
        """Whether too many passwords were wrong."""
        return 0 < self._faults.locks_after <= self._wrong


class Sessions:
    """Session cookies of one endpoint: opaque, short-lived."""

    def __init__(self, clock: Callable[[], float], life_s: float) -> None:
        self._clock = clock
        self._life_s = life_s
        self._ends: dict[str, float] = {}

    def open(self) -> str:
        """Return a new session."""
        now = self._clock()
        self._ends = {name: end for name, end in self._ends.items() if end > now}
        session = secrets.token_urlsafe(24)
        self._ends[session] = now + self._life_s
        return session

    def is_open(self, session: str) -> bool:
        """Say if it is one of ours and its time is not over."""
        return self._ends.get(session, 0) > self._clock()


class Tokens:
    """Signed tokens (JWT, HS256) whose scope names the API revision that they are good for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def issue(self, subject: str, scope: str, life_s: float) -> str:
        """Return a token for `scope`, good for `life_s` seconds."""
        now = self._clock()
        head = _encode({"alg": "HS256", "typ": "JWT"})
        body = _encode({"sub": subject, "scope": scope, "iat": int(now), "exp": int(now + life_s)})
        return f"{head}.{body}.{self._sign(f'{head}.{body}')}"

    def read(self, token: str) -> tuple[TokenState, str]:
        """Return what a token is worth and its scope."""
        signed, _, signature = token.rpartition(".")
        if not signed or not hmac.compare_digest(signature, self._sign(signed)):
            return "foreign", ""
        body = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return ("valid" if body["exp"] > self._clock() else "expired"), body["scope"]

    def _sign(self, text: str) -> str:
        return _base64(hmac.new(self._key, text.encode(), hashlib.sha256).digest())


def _encode(value: dict[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
