"""Names and secrets of iSCSI, checked: a name that Prism told becomes an argument of the program that logs in."""

from __future__ import annotations

import re
from collections.abc import Callable

from ntxengine.errors import OptionsError, PrismAnswerError
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.secret import Secret

IQN = "iqn.2010-06.com.nutanix:"
"""What v4 leaves out of the name of a target."""

_NAME = re.compile(r"[0-9A-Za-z.:-]{1,223}")
_WHOLE = re.compile(r"(?:iqn|eui|naa)\.", re.IGNORECASE)
_INITIATOR = re.compile(r"iqn\.\d{4}-\d{2}\.[a-z0-9.-]+(?::[a-z0-9.:-]+)?")
_SECRET = re.compile(r"[A-Za-z0-9]{12,16}")
_MAX_INITIATOR = 64


def target_from(told: str | None, *, what: str) -> str:
    """Return the whole name of a target, "" if none is told.

    Errors: PrismAnswerError if it is none that iSCSI has.
    """
    if not told:
        return ""
    if _NAME.fullmatch(told) is None:
        raise PrismAnswerError(f"{what}: {one_line(told)!r} is no name of an iSCSI target")
    return told if _WHOLE.match(told) else IQN + told


def check_initiator(name: str) -> None:
    """Errors: OptionsError if this is no name of an initiator that Prism takes."""
    if len(name) > _MAX_INITIATOR or _INITIATOR.fullmatch(name) is None:
        raise OptionsError(
            f"{one_line(name)!r} is no name of an iSCSI initiator: iqn.YYYY-MM.domain:name, in lower case"
        )


def check_secret(secret: str) -> None:
    """Errors: OptionsError, which does not repeat it, if this is no secret that all Prisms take."""
    if _SECRET.fullmatch(secret) is None:
        raise OptionsError("a secret of CHAP has 12 to 16 letters and digits")


class GroupSecrets:
    """The secrets of the volume groups that were made here, by their names: each is hidden until its group is gone."""

    def __init__(self, forget: Callable[[Secret], None]) -> None:
        self._forget = forget
        self._of: dict[str, set[Secret]] = {}

    def keep(self, name: str, secret: str) -> Secret:
        """Return `secret`, which is told for this group."""
        kept = Secret(secret)
        self._of.setdefault(name, set()).add(kept)
        return kept

    def gone(self, name: str) -> None:
        """Forget what was told for this group, and for no other."""
        for secret in self._of.pop(name, set()).difference(*self._of.values()):
            self._forget(secret)
