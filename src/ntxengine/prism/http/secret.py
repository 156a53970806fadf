"""A text that does not print itself, and how it is kept out of the texts of others."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec

_HIDDEN = "***"
_BACKSLASH = r"(?:\\|u005[cC])"
_SHORT = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


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


class ToldSecrets:
    """Secrets that went out in bodies.  None comes back in an answer, nor in one to a later request: a task may
    complain of what another request brought.

    Each is kept with the pattern that finds it, until it is forgotten: a capture tells one for each disk.
    """

    def __init__(self) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}

    def encode(self, body: Any) -> bytes:
        """Return a body as JSON, with the texts of the secrets in it."""
        return msgspec.json.encode(body, enc_hook=self._reveal)

    def found_in(self, body: bytes) -> list[str]:
        """Return those that stand in an answer as they are."""
        return [text for text in self._patterns if text.encode() in body]

    def written_in(self, body: bytes) -> list[str]:
        """Return those that stand in an error body, however it writes them."""
        if not self._patterns:
            return []
        text = body.decode(errors="surrogateescape")
        return [secret for secret, pattern in self._patterns.items() if pattern.search(text)]

    def forget(self, secret: Secret) -> None:
        """Look for this one no longer: what it was for is gone."""
        self._patterns.pop(secret.reveal(), None)

    def _reveal(self, value: object) -> str:
        if not isinstance(value, Secret):
            raise TypeError(f"no part of a request: {type(value).__name__}")
        text = value.reveal()
        if text and text not in self._patterns:
            self._patterns[text] = re.compile(_pattern(text))
        return text


def redacted(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return an error body without secrets: only its texts change, so that JSON stays JSON with its numbers."""
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)  # one may be the beginning of another
    if not longest_first:
        return body
    pattern = re.compile("|".join(map(_pattern, longest_first)))
    try:
        return msgspec.json.encode(_redacted(msgspec.json.decode(body), pattern))
    except (msgspec.DecodeError, msgspec.EncodeError, UnicodeError, RecursionError):
        text = body.decode(errors="surrogateescape")  # no JSON, or none that can be held
        return pattern.sub(_HIDDEN, text).encode(errors="surrogateescape")


def _redacted(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(_HIDDEN, value)
    if isinstance(value, list):
        return [_redacted(item, pattern) for item in value]
    if isinstance(value, dict):
        return {_redacted(name, pattern): _redacted(item, pattern) for name, item in value.items()}
    return value


def _pattern(secret: str) -> str:
    """Return what finds a secret in a text, also as JSON in it writes it, and JSON in that.

    JSON may write any letter as `\\u00e9` (two of them above U+FFFF), some as `\\n`, and puts a backslash before
    others; each further level doubles the backslashes.  So what is looked for is the letters without the backslashes.
    """
    letters = [_written(letter) for letter in re.sub(_BACKSLASH, "", secret)]
    return "|".join([re.escape(secret), *([f"{_BACKSLASH}*+".join(letters)] if letters else [])])


def _written(letter: str) -> str:
    """Return what finds one letter, but for the backslashes in front of it."""
    units = letter.encode("utf-16-be", errors="surrogatepass")
    escaped = f"{_BACKSLASH}*+".join(f"u(?i:{units[at : at + 2].hex()})" for at in range(0, len(units), 2))
    return f"(?:{re.escape(letter)}|{escaped}|{_SHORT.get(letter, '(?!)')})"
