"""Going on after a lost connection: open both ends again, and copy what is not known to be stored.

What is retried is the way to the bytes.  An answer is final: an end that refuses, breaks its protocol, or has no room.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ntxengine.errors import NbdNegotiationError, NbdProtocolError, NbdReplyError, PlaceError, TransferTimeout

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
MAX_PATIENCE_S = 7 * 24 * 3600

_LOST = frozenset(
    {
        errno.EBADMSG,  # what came through TLS was changed on the way
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.EPIPE,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
    }
)


@dataclass(frozen=True)
class Patience:
    """For how long to try again without getting any further, in seconds; 0: not at all."""

    seconds: float = 300.0
    first_wait_s: float = FIRST_WAIT_S
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an end may answer if it is opened again."""
    if isinstance(error, TransferTimeout):
        return True
    if isinstance(error, NbdReplyError):
        return error.errno == errno.ESHUTDOWN
    is_final = isinstance(error, NbdNegotiationError | NbdProtocolError)
    return isinstance(error, PlaceError) and not is_final and error.errno in _LOST


class Going(Protocol):
    """What of a copy that goes on decides whether to try it again: Checkpoints has it."""

    retries: int

    @property
    def has_begun(self) -> bool:
        """Whether both ends were there."""

    @property
    def stored_to(self) -> int:
        """How far it got."""


async def retrying(
    once: Callable[[], Awaitable[T]],
    checkpoints: Going,
    patience: Patience,
    *,
    name: str,
    tell: Callable[[str], None] = log.warning,
) -> T:
    """Do `once`, which opens both ends and copies with `checkpoints`, until it succeeds.

    `tell` is told of each loss, and of when it is tried again.
    Raised is a failure that is no lost connection, one before any copy began, and one after nothing more was stored for
    so long.  `checkpoints.retries` counts.
    """
    wait_s = patience.first_wait_s
    stored_to, moved_at = checkpoints.stored_to, patience.clock()
    while True:
        try:
            return await once()
        except PlaceError as error:
            if not checkpoints.has_begun or not is_lost_connection(error):
                raise
            now = patience.clock()
            if checkpoints.stored_to > stored_to:
                wait_s, stored_to, moved_at = patience.first_wait_s, checkpoints.stored_to, now
            left_s = moved_at + patience.seconds - now
            if left_s <= 0:
                raise
            now_s = min(wait_s, left_s)
            tell(f"{name}: {error}; trying again in {now_s:.1f} s")
        checkpoints.retries += 1
        await patience.sleep(now_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
