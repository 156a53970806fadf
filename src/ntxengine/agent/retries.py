"""What an error leaves to do: again, not before the next due time, or nobody before it is over.  A decision, no I/O.

    wrong arguments, no such VM, wrong bytes, a damaged repository     final: the next due time tries again
    account refused                                                    concerns all runs: held for long, so that the
                                                                       account is not locked
    no password can be read now                                        concerns all runs: held
    no connection to Prism; Prism busy or silent three times in a row  concerns all runs: held; where it is the Prism
                                                                       Element of one cluster, those of its VMs
    a program is missing here, or this machine as a VM; three times    concerns all runs: held
    in a row no memory, threads or descriptors
    the repository, or the target, cannot be opened or written         concerns all runs into it: held
    all else                                                           again, with growing waits

What is held is tried by one run at a time, and over with the first that gets through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ntxengine.agent.records import Retry
from ntxengine.errors import (
    ChecksumMismatch,
    CredentialsError,
    MachineError,
    MissingProgram,
    NbdNegotiationError,
    NotFoundError,
    NtxError,
    OptionsError,
    PrismBusy,
    PrismConnectionError,
    PrismError,
    PrismStatusError,
    PrismTimeout,
    RepositoryError,
    TargetError,
)

PRISM = "Prism"
MACHINE = "this machine"

_FINAL = (
    OptionsError,
    NotFoundError,
    CredentialsError,
    ChecksumMismatch,
    RepositoryError,
    NbdNegotiationError,
)
_PASSES_STATUS = frozenset({404, 408, 409, 412, 423, 429})
"""Answers of Prism from 400 to 499 that another moment may change."""


class RepositoryUnusable(RepositoryError):
    """The repository as a whole cannot be used: it is not mounted, perhaps."""


class LoginUnknown(OptionsError):
    """What Prism is to be told to let us in, or what its certificate is judged by, cannot be read now."""


class WorkerUnusable(NtxError):
    """The VM that this machine is said to be is not there: no disk can be attached to it."""


class RunTimeout(NtxError):
    """A run took longer than it may: it was stopped, and the next goes on with it."""

    exit_code = 75


@dataclass(frozen=True)
class Retries:
    """How often a run is tried, `attempts` in all; waits double from `first` to `longest`.

    No try begins later than `budget` after the first that failed.
    Errors: OptionsError.
    """

    attempts: int = 3
    first: timedelta = timedelta(minutes=1)
    longest: timedelta = timedelta(minutes=15)
    budget: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise OptionsError(f"attempts {self.attempts}: at least one")
        if not timedelta(0) < self.first <= self.longest:
            raise OptionsError(f"a retry waits from {self.first} to {self.longest}: the first wait is the shorter one")
        if self.budget < timedelta(0):
            raise OptionsError(f"retry budget {self.budget}: 0 or more")


@dataclass(frozen=True)
class Verdict:
    """What an error means.

    `is_final`: not again before the next due time.  `scope` is what is held for it, "" for nothing; only after so many
    in a row (`needs`).  `ends_with_copy`: that is over with a run that has begun to copy; else with one that succeeds.
    `counts`: it is one of the attempts of this run, which may be to blame for it itself.
    """

    is_final: bool = False
    scope: str = ""
    needs: int = 1
    ends_with_copy: bool = False
    counts: bool = True
    first_hold_s: float = 30.0
    longest_hold_s: float = 300.0


def judge(error: BaseException, place: str = "", cluster: str = "") -> Verdict:
    """Return what an error of a run means.

    `place` is the scope of where it goes (jobs.Job.scope), `cluster` the name of that of its VM, "" if it is not known.
    """
    is_of_cluster = isinstance(error, PrismError) and error.is_of_element and cluster
    prism = _of_cluster(cluster) if is_of_cluster else PRISM
    if isinstance(error, CredentialsError):
        return Verdict(scope=prism, ends_with_copy=True, counts=False, first_hold_s=600, longest_hold_s=3600)
    if isinstance(error, PrismConnectionError | LoginUnknown):
        return Verdict(scope=prism, ends_with_copy=True, counts=False)
    if isinstance(error, WorkerUnusable | MissingProgram):
        return Verdict(scope=MACHINE, ends_with_copy=True, counts=False, first_hold_s=60, longest_hold_s=900)
    if isinstance(error, MachineError):
        return Verdict(scope=MACHINE, needs=3)
    if isinstance(error, PrismTimeout | PrismBusy):
        return Verdict(scope=prism, needs=3, ends_with_copy=True)
    if isinstance(error, RepositoryUnusable):
        # It is open then, and has been written to; but whether there is room is known at the end.
        return Verdict(scope=place, ends_with_copy=True, counts=False, first_hold_s=60, longest_hold_s=900)
    if isinstance(error, TargetError):
        return Verdict(scope=place, first_hold_s=60, longest_hold_s=900)
    if isinstance(error, PrismStatusError) and 400 <= error.status < 500:
        return Verdict(is_final=error.status not in _PASSES_STATUS)
    return Verdict(is_final=isinstance(error, _FINAL))


def scopes_of(place: str, cluster: str) -> tuple[str, ...]:
    """Return what a run into a place needs, any of which may be held."""
    return (PRISM, *([_of_cluster(cluster)] if cluster else []), place, MACHINE)


def _of_cluster(name: str) -> str:
    return f"cluster {name}"


def next_try(
    verdict: Verdict,
    retries: Retries,
    *,
    attempt: int,
    earlier: Retry | None,
    due: datetime | None,
    now: datetime,
    chance: float,
) -> Retry | None:
    """Return when a run that failed as its number `attempt` is tried again; None if not before it is due again.

    `earlier` is what it was a retry of; `chance` in [0, 1) spreads the waits.
    """
    since = now if earlier is None or earlier.was_interrupted else earlier.since
    if not verdict.counts:
        return Retry(attempt, now, now, due)
    wait = min(retries.first * 2 ** min(attempt - 1, 30), retries.longest) * (1 + 0.5 * chance)
    if verdict.is_final or attempt >= retries.attempts or now + wait > since + retries.budget:
        return None
    return Retry(attempt + 1, now + wait, since, due)


@dataclass(frozen=True)
class Hold:
    """Nothing of `scope` begins before `until` (monotonic seconds), and then one run at a time, because of `reason`.

    `ends_with_copy`: as in Verdict.
    """

    scope: str
    reason: str
    since: datetime
    until: float
    tries: int = 1
    ends_with_copy: bool = False


class Holds:
    """What is held, and what has failed so far without being held."""

    def __init__(self) -> None:
        self.epoch = 0
        """Counts how often everything was forgotten: an error of a run from before then concerns none of today's."""
        self._holds: dict[str, Hold] = {}
        self._in_a_row: dict[str, int] = {}

    @property
    def all(self) -> Mapping[str, Hold]:
        return self._holds

    def failed(self, verdict: Verdict, reason: str, *, now: datetime, monotonic: float) -> bool:
        """Take note of an error; return whether something is held from now on that was not."""
        scope = verdict.scope
        if not scope:
            return False
        count = self._in_a_row[scope] = self._in_a_row.get(scope, 0) + 1
        earlier = self._holds.get(scope)
        if earlier is None and count < verdict.needs:
            return False
        # Runs that were on their way when it began tell the same once more: that is no new try.
        tries = 1 if earlier is None else earlier.tries + (monotonic >= earlier.until)
        wait_s = min(verdict.first_hold_s * 2.0 ** min(tries - 1, 30), verdict.longest_hold_s)
        since = now if earlier is None else earlier.since
        self._holds[scope] = Hold(scope, reason, since, monotonic + wait_s, tries, verdict.ends_with_copy)
        return earlier is None

    def passed(self, scope: str) -> Hold | None:
        """Take note that it works; return what is not held any more."""
        self._in_a_row.pop(scope, None)
        return self._holds.pop(scope, None)

    def clear(self) -> None:
        """Hold nothing: what was wrong may have been put right."""
        self.epoch += 1
        self._holds.clear()
        self._in_a_row.clear()
