"""When to ask Prism again, and after how long: a decision, no I/O.

    answered 429                   refused for rate: not executed, ask again
    answered 408, 503, 504         may have been executed: again only if asking twice does no harm
    other 5xx, text                an overloaded gateway: likewise
    other 5xx, JSON                a service that fails, in passing or for good: likewise, a few times
    answered 501                   the wrong endpoint: final
    connection refused             not sent: again, if this Prism has answered us before (it restarts now and then)
    connection lost                may have been executed: again only if asking twice does no harm
    certificate, time-out, rest    final

Whatever is asked again ends at a deadline.  Prism's rate limits are tiny (1 or 2 a second for some calls, nutanix-api
fact 7), so the waits are spread by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_SANE_WAIT_S = 60.0
"""A wait that a header asks for is believed up to this."""

_RATE = 429
_WRONG_ENDPOINT = 501
_BUSY = frozenset({408, 503, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long: `retries` after the first try, waits doubling from `first_wait_s` to `longest_wait_s`.

    `doubtful_retries` are for an error of the service itself, which may be there to stay.  No retry begins later than
    `deadline_s` after the first try.
    """

    retries: int = 7
    first_wait_s: float = 0.5
    longest_wait_s: float = 15.0
    doubtful_retries: int = 3
    deadline_s: float = 180.0

    def retries_after(self, status: int, *, is_plain_text: bool, is_repeatable: bool) -> int:
        """Return how many retries are worth it after this answer, all told; 0 if it is final."""
        if status == _RATE:
            return self.retries
        if not is_repeatable or status == _WRONG_ENDPOINT:
            return 0
        if status in _BUSY or (status >= 500 and is_plain_text):
            return self.retries
        return min(self.doubtful_retries, self.retries) if status >= 500 else 0

    def may_have_been_executed(self, status: int) -> bool:
        """Return whether a request that was answered so may have been executed (see the module's head)."""
        return status in _BUSY or (status >= 500 and status != _WRONG_ENDPOINT)

    def wait_s(self, retry: int, headers: Mapping[str, str], chance: float) -> float:
        """Return how long to wait before retry number `retry` (from 0); `chance` in [0, 1) spreads it.

        Waits at least as long as Prism asks for, where that is a sane number.
        """
        backoff_s = min(self.first_wait_s * 2.0**retry, self.longest_wait_s)
        return max(backoff_s, _asked_wait_s(headers)) * (1.0 + 0.5 * chance)


def _asked_wait_s(headers: Mapping[str, str]) -> float:
    """Return the longest sane wait that the headers ask for.

    X-Api-Ratelimit-Reset is left alone: its unit is not known (recorded: 183 with a period of one second).
    """
    asked = [_seconds(headers.get("retry-after", "")), _date_s(headers.get("retry-after", ""))]
    if headers.get("x-api-ratelimit-remaining", "").strip() == "0":
        asked.append(_seconds(headers.get("x-api-ratelimit-refresh-period-seconds", "")))
    return max(wait_s if 0 < wait_s <= MAX_SANE_WAIT_S else 0.0 for wait_s in asked)


def _seconds(text: str) -> float:
    text = text.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0.0


def _date_s(text: str) -> float:
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return (when - datetime.now(UTC)).total_seconds() if when.tzinfo is not None else 0.0
