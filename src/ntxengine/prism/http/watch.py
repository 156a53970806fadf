"""What the answers of one Prism tell beside their bodies: its clock, its rate limits, what it calls itself.

Of a request only the call is kept, with how often it was asked: no query, no body, no id, so nothing to redact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ntxengine.prism.http.error_body import one_line

MAX_KEPT = 200
"""Calls, and status codes of them, that are kept: a server must not choose how much."""

_MAX_HEADER = 60


@dataclass
class Answered:
    """How often a call was answered with a status, and the longest that it took."""

    count: int = 0
    longest_s: float = 0.0


@dataclass(frozen=True)
class RateHeaders:
    """The rate limit of one call, in the words of the headers; "" where there was none."""

    limit: str
    period_s: str
    of_all: str


@dataclass
class Watch:
    """Hears each answer of one Prism.  `skew_s` is how far its clock is ahead of ours, None if it told no time."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    skew_s: float | None = None
    product: str = ""
    environment: str = ""
    calls: dict[tuple[str, int], Answered] = field(default_factory=dict)
    rates: dict[str, RateHeaders] = field(default_factory=dict)

    def heard(self, api: str, status: int, headers: Mapping[str, str], seconds: float) -> None:
        """Keep what an answer told; `api` is the call without ids."""
        if (api, status) in self.calls or len(self.calls) < MAX_KEPT:
            answered = self.calls.setdefault((api, status), Answered())
            answered.count += 1
            answered.longest_s = max(answered.longest_s, seconds)
        self.product = self.product or _text(headers, "x-ntnx-product")
        self.environment = self.environment or _text(headers, "x-ntnx-env").lower()
        self._hear_time(headers.get("date", ""), seconds)
        rate = RateHeaders(
            _text(headers, "x-api-ratelimit-limit"),
            _text(headers, "x-api-ratelimit-refresh-period-seconds"),
            _text(headers, "x-ratelimit-limit"),
        )
        if (rate.limit or rate.of_all) and (api in self.rates or len(self.rates) < MAX_KEPT):
            self.rates[api] = rate

    def _hear_time(self, text: str, seconds: float) -> None:
        """Take the nearest to ours: the answer was on its way for up to `seconds`, and tells no fractions."""
        try:
            when = parsedate_to_datetime(text[:_MAX_HEADER])
        except (TypeError, ValueError, OverflowError):
            return
        if when.tzinfo is None:
            return
        early = (when - self.now()).total_seconds()
        late = early + seconds + 1.0
        skew_s = early if early > 0 else min(late, 0.0)
        if self.skew_s is None or abs(skew_s) < abs(self.skew_s):
            self.skew_s = skew_s


def _text(headers: Mapping[str, str], name: str) -> str:
    return one_line(headers.get(name, ""))[:_MAX_HEADER]
