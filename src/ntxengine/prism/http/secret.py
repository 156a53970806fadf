"""A text that does not print itself, and how it is kept out of the texts of others."""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import Iterable
from typing import NoReturn

import msgspec


class Secret:
    """A text that repr, str, format and pickle do not give away; only `reveal` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


def redacted(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return an error body without secrets, however JSON wrote them: as a text, or as JSON inside of one."""
    with contextlib.suppress(msgspec.DecodeError, msgspec.EncodeError, UnicodeError, RecursionError):
        body = msgspec.json.encode(msgspec.json.decode(body))  # one way of writing instead of many
    for secret in filter(None, secrets):
        once = [json.dumps(secret, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)]
        twice = [json.dumps(text)[1:-1] for text in once]
        for text in (*twice, *once, secret):
            body = body.replace(text.encode(errors="surrogatepass"), b"***")
    return body
