"""When to ask Prism again, and after how long: a decision, no I/O.

    answered 429, 503              refused for rate or load: not executed, ask again
    answered 408, 504, 5xx text    may have been executed: again only if asking twice does no harm
    connection refused             not sent: again, if this Prism has answered us before (it restarts now and then)
    connection lost                may have been executed: again only if asking twice does no harm
    certificate, time-out, rest    final

Prism's rate limits are tiny (1 or 2 a second for some calls, nutanix-api fact 7), so the waits are spread by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_SANE_WAIT_S = 60.0
"""A wait that a header asks for is believed up to this."""

_REFUSED = frozenset({429, 503})
_UNCLEAR = frozenset({408, 504})


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long: `retries` after the first try, waits doubling from `first_wait_s` to `longest_wait_s`."""

    retries: int = 7
    first_wait_s: float = 0.5
    longest_wait_s: float = 15.0

    def wait_s(self, retry: int, headers: Mapping[str, str], chance: float) -> float:
        """Return how long to wait before retry number `retry` (from 0); `chance` in [0, 1) spreads it.

        Waits at least as long as Prism asks for, where that is a sane number.
        """
        backoff_s = min(self.first_wait_s * 2.0**retry, self.longest_wait_s)
        return max(backoff_s, _asked_wait_s(headers)) * (1.0 + 0.5 * chance)


def is_overload(status: int, *, is_plain_text: bool, is_repeatable: bool) -> bool:
    """Return whether this answer means `try again later`, and doing so can do no harm.

    Plain text on a 5xx comes from an overloaded gateway, not from the service; 501 is the wrong endpoint, always final.
    """
    if status in _REFUSED:
        return True
    unclear = status in _UNCLEAR or (status >= 500 and status != 501 and is_plain_text)
    return unclear and is_repeatable


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
    except (TypeError, ValueError):
        return 0.0
    return (when - datetime.now(UTC)).total_seconds() if when.tzinfo is not None else 0.0
