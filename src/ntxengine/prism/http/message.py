"""A request to a Prism, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ntxengine.prism.http.limiter import api_of
from ntxengine.prism.http.parse import decode
from ntxengine.prism.http.secret import Secret

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One call.  `path` holds checked parts only; `is_repeatable` says that executing it twice does no harm.

    What is secret in `body` is a Secret there.
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
