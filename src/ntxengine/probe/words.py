"""Words that several checks share: that a Prism does not say, which options are about it, how many days are left."""

from __future__ import annotations

from datetime import datetime

from ntxengine.prism.inquiry import Reply
from ntxengine.probe.check import Probed
from ntxengine.probe.model import Fact, Result, failed

AGAIN = "try again later; is this Prism busy, or being updated?"
FEW_DAYS = 30
"""Left to a certificate: time to renew it."""

_PRISM = {
    "address": "--prism",
    "ca_file": "--ca-file",
    "fingerprint": "--fingerprint",
    "account": "--username, --password-file or --api-key-file",
}
_ELEMENT = {
    "address": "--element",
    "ca_file": "--element-ca-file",
    "fingerprint": "--element-fingerprint",
    "account": "--element-username or --element-password-file",
}


def not_known(reply: Reply, **facts: Fact) -> Result:
    """A Prism that does not say what was asked, which is no answer."""
    return failed(f"not known: {reply.text}", AGAIN, **facts)


def options_of(place: Probed) -> dict[str, str]:
    """Return the options that say where a Prism is, how it is trusted, and who asks."""
    return _ELEMENT if place.subject == "element" else _PRISM


def days_left(until: datetime | None, now: datetime) -> int | None:
    """Return how many whole days there are until then, negative if it is over; None if it is not known."""
    return None if until is None else (until - now).days
