"""One login at a time; the rest wait for its cookie.

A directory behind Prism refuses logins that come in parallel, with 401 or 403, although the password is right.

    no cookie      the first request logs in with the credentials, the others wait
    cookie         requests go in parallel, with the cookie
    run out here   the session has ended, too
    401            the session has ended: the first to see it logs in once, the others wait and go on with its cookie
    403            right behind such a 401 the same; otherwise it is tried once for each call whether a login helps
    busy           a login that is refused, with 401 or 403, is made once more if another was good before
    no cookies     a server that gives none, or none that work: every request carries the credentials, in parallel
                   until a login is refused, and again after the next good one
    refused        a login was refused (401): nobody tries again, since a few more would lock the account; if one had
                   been good before, one tries again after a while, and after each refusal twice as long

Knows nothing of HTTP: `Jar` is what holds cookies.
"""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

Jar = TypeVar("Jar")
Refusal = TypeVar("Refusal")

FRESH_S = 60.0
"""A cookie that is refused so soon after the login, and never worked, was none of a session."""

REFUSED_FOR_S = 60.0
"""How long the first refusal of a login holds, if another was good before."""


class Login(Generic[Jar, Refusal]):
    """The state of one account at one Prism.  `line` is held by whoever logs in."""

    def __init__(self) -> None:
        self.line = asyncio.Lock()
        self.age = 0
        self.jar: Jar | None = None
        self.has_worked = False
        self._gives_no_cookies = False
        self._are_cookies_useless = False
        self._has_jar_worked = False
        self._since_s = 0.0
        self._refusal: Refusal | None = None
        self._refusals = 0
        self._refused_until_s = 0.0
        self._forbidden: set[str] = set()

    @property
    def needs_no_line(self) -> bool:
        """Whether requests without a cookie may go together: logins give none, and the last one was good."""
        return self._gives_no_cookies and self._refusals == 0

    def good(self, jar: Jar | None, now: float) -> None:
        """A login was good; `jar` is None if it gave no cookies."""
        self.age += 1
        self.has_worked = True
        self.jar = None if self._are_cookies_useless else jar
        self._gives_no_cookies = self.jar is None
        self._has_jar_worked = False
        self._since_s = now
        self._refusals = 0

    def may_pass(self, status: int, api: str) -> bool:
        """Return whether this answer to a login may well be another in a moment: logins have been good so far."""
        is_refusal = status == 401 or (status == 403 and api not in self._forbidden)
        return is_refusal and self.has_worked and self._refusals == 0

    def refuse(self, refusal: Refusal, now: float) -> None:
        """A login was refused."""
        self._refusal = refusal
        self._refused_until_s = now + REFUSED_FOR_S * 2.0 ** min(self._refusals, 10)
        self._refusals += 1

    def refusal(self, now: float) -> Refusal | None:
        """Return why nobody may log in now; None if one may."""
        if self.has_worked and now >= self._refused_until_s:
            self._refusal = None
        return self._refusal

    def jar_worked(self, age: int) -> None:
        """The cookies of login number `age` were taken."""
        self._has_jar_worked |= age == self.age

    def expired(self, age: int) -> None:
        """The cookies of login number `age` have all run out here."""
        if age == self.age:
            self.jar = None

    def has_ended(self, status: int, api: str, age: int, now: float) -> bool:
        """Return whether an answer to the cookies of login number `age` may mean that its session has ended.

        If so, they are no longer used.
        """
        if status not in (401, 403):
            return False
        if age == self.age and self.jar is not None:
            if self.is_forbidden(status, api):
                return False
            self.jar = None
            self._are_cookies_useless = not self._has_jar_worked and now - self._since_s < FRESH_S and status == 401
        return True

    def forbid(self, api: str) -> None:
        """The call is forbidden right after a login too: its 403 says nothing of the session."""
        self._forbidden.add(api)

    def is_forbidden(self, status: int, api: str) -> bool:
        """Return whether this 403 is known to be about the call, not about who asks."""
        return status == 403 and api in self._forbidden
