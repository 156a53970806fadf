"""The VMs of the jobs: listed now and then, beside the runs; the last list holds where Prism does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from ntxengine.agent.clock import Clock
from ntxengine.agent.holding import Holding
from ntxengine.agent.jobs import JobVm, Setup
from ntxengine.agent.once import Once
from ntxengine.agent.retries import PRISM, Verdict, judge
from ntxengine.errors import NtxError

log = logging.getLogger(__name__)

REFRESH_S = 600.0
"""How old a list gets."""

LIST = "the list of VMs"

SOONEST_S = 60.0
"""Whatever happens, no list is asked for sooner after the last."""


class Listing:
    """What the inventory of the setup told last."""

    def __init__(self, clock: Clock, holds: Holding, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._holds = holds
        self._wake = wake
        self._setup: Setup | None = None
        self._listed: Setup | None = None
        self._vms: Mapping[str, Sequence[JobVm]] = {}
        self._task: asyncio.Task[None] | None = None
        self._asked_at: float | None = None
        self._is_new_setup = True
        self._wanted_at = 0.0
        self._once = Once()
        self._held_since: datetime | None = None
        self.problem = ""
        """Why the last list could not be had, "" if it could."""

    def use(self, setup: Setup) -> None:
        """Ask the inventory of this setup from now on; nobody waits any more for what the one before may tell."""
        self._setup = setup
        self._is_new_setup = True
        self.close()

    def vms(self, job: str) -> Sequence[JobVm]:
        return self._vms.get(job, ())

    @property
    def is_of_setup(self) -> bool:
        """Whether the list is of this setup; else it is that of the one before, which may have chosen others."""
        return self._listed is self._setup

    @property
    def is_known(self) -> bool:
        """Whether there was a list, ever."""
        return bool(self._vms)

    def expire(self) -> None:
        """Ask soon."""
        self._wanted_at = 0.0

    def due_in_s(self) -> float:
        """Return in how many seconds a list is to be asked for."""
        now = self._clock.monotonic()
        if self._task is not None:
            return REFRESH_S
        if self._is_new_setup or self._asked_at is None:
            return max(0.0, self._held_s(now))
        return max(0.0, self._held_s(now), max(self._wanted_at, self._asked_at + SOONEST_S) - now)

    def _held_s(self, now: float) -> float:
        return max((hold.until - now for scope, hold in self._holds.all.items() if scope in (PRISM, LIST)), default=0.0)

    def keep(self) -> None:
        """Ask for a list if it is time, in a task of its own."""
        if self.due_in_s() > 0:
            return
        assert self._setup is not None
        self._is_new_setup = False
        self._asked_at = self._clock.monotonic()
        self._task = asyncio.create_task(self._ask(self._setup), name="list the VMs")

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _ask(self, setup: Setup) -> None:
        try:
            await self._list(setup)
        finally:
            # Also where it was cancelled, by whomever: a list that nobody asks for any more is the end of all runs.
            if self._task is asyncio.current_task():
                self._task = None
            self._wake()

    async def _list(self, setup: Setup) -> None:
        verdict = Verdict()
        try:
            found = await setup.inventory.vms()
        except NtxError as error:
            verdict, text = judge(error), str(error)
        except Exception as error:  # a defect here must not end the agent
            text = f"a defect of ntx: unexpected {type(error).__name__}: {error}"
            log.debug("listing the VMs", exc_info=error)
        else:
            text = ""
        if text and setup is not self._setup:
            return  # the new one is asked already
        self._take_note(verdict, text)
        if not text:
            self._vms, self._listed = found, setup

    def _take_note(self, verdict: Verdict, text: str) -> None:
        """Say what is wrong, once; `text` is "" if nothing is."""
        self._wanted_at = self._clock.monotonic() + (SOONEST_S if text else REFRESH_S)
        self.problem = text
        if not text:
            self._holds.passed(LIST)
            hold = self._holds.all.get(PRISM)
            if hold is not None and hold.since == self._held_since:  # one of runs is theirs: they may need another one
                self._holds.release(PRISM)
            if self._once.is_over(LIST):
                log.warning("the VMs can be listed again")
        elif verdict.scope == PRISM and verdict.needs == 1:
            is_ours = PRISM not in self._holds.all
            self._holds.fail(verdict, text)
            if is_ours:
                self._held_since = self._holds.all[PRISM].since
        else:
            self._holds.hold(LIST, verdict, text)
            if self._once.is_new(LIST, text):
                log.error("the VMs cannot be listed%s: %s", ", the last list holds" if self._vms else "", text)
