"""Cookies: which are kept, where they are sent, and which of them are secrets."""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy

_SHORTEST_SESSION = 8  # a shorter cookie (SERVERID=1) proves nothing, and would hide half of a message


class WholeHost(CookieJar):
    """Cookies for all paths: a session is of the host, also where it was begun by a call that named no path for it."""

    def set_cookie(self, cookie: Cookie) -> None:
        cookie.path = "/"
        super().set_cookie(cookie)


def none_kept() -> CookieJar:
    """Return a jar that takes no cookie."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))


def secrets_in(header: str) -> list[str]:
    """Return the values in a Cookie header that prove something."""
    values = (pair.partition("=")[2].strip() for pair in header.split(";"))
    return [value for value in values if len(value) >= _SHORTEST_SESSION]
