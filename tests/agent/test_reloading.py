"""A reload while something is under way: what is old neither stops the new nor is stopped by it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from ntxengine.agent.connection import Connection
from ntxengine.agent.jobs import JobVm, Setup
from ntxengine.agent.records import RunState
from ntxengine.errors import CredentialsError
from ntxengine.prism import Cluster
from tests.agent.acting import Acting, Listed, acting, job
from tests.agent.virtual import VirtualLoop, in_virtual_time


class SilentInventory:
    """Asks a Prism that never answers."""

    def __init__(self) -> None:
        self.connection = Connection(self._connect)

    async def _connect(self) -> Cluster:
        await asyncio.sleep(1e6)
        raise AssertionError

    async def vms(self) -> Mapping[str, Sequence[JobVm]]:
        async with self.connection.use():
            raise AssertionError


def test_a_list_that_is_waited_for_does_not_keep_the_next_setup_from_having_one(tmp_path: Path) -> None:
    async def main(loop: VirtualLoop) -> None:
        runner, silent = Acting(), SilentInventory()
        async with acting(loop, tmp_path, job(), inventory=silent, runner=runner) as play:
            await play.sleep(minutes=1)
            play.scheduler.apply(Setup((job(),), Listed(hourly=["a"]), runner))
            await silent.connection.aclose()
            await play.sleep(hours=1, minutes=1)
        assert len(runner.began) == 1

    in_virtual_time(main)


def test_a_list_that_was_cancelled_is_asked_for_again(tmp_path: Path) -> None:
    class CancelledOnce(Listed):
        async def vms(self) -> Mapping[str, Sequence[JobVm]]:
            if not self.calls:
                self.calls += 1
                raise asyncio.CancelledError
            return await super().vms()

    async def main(loop: VirtualLoop) -> None:
        runner = Acting()
        async with acting(loop, tmp_path, job(), inventory=CancelledOnce(hourly=["a"]), runner=runner) as play:
            await play.sleep(hours=1, minutes=2)
        assert len(runner.began) == 1

    in_virtual_time(main)


def test_who_waits_for_a_connection_gets_it_although_it_is_closed_for_others() -> None:
    async def main(loop: VirtualLoop) -> None:
        class Opened:
            is_closed = False

            async def aclose(self) -> None:
                self.is_closed = True

        opened = Opened()

        async def connect() -> Cluster:
            await asyncio.sleep(5)
            return opened  # type: ignore[return-value]  # nobody asks it anything

        connection = Connection(connect)

        async def use() -> bool:
            async with connection.use():
                return opened.is_closed

        using = asyncio.create_task(use())
        await asyncio.sleep(1)
        await connection.aclose()

        assert await using is False
        assert opened.is_closed

    in_virtual_time(main)


def test_a_vm_that_the_new_setup_may_not_have_is_not_run_by_the_list_of_the_old(tmp_path: Path) -> None:
    class Late(Listed):
        async def vms(self) -> Mapping[str, Sequence[JobVm]]:
            await asyncio.sleep(600)
            return await super().vms()

    async def main(loop: VirtualLoop) -> None:
        old, new = Acting(), Acting()
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a", "b"]), runner=old) as play:
            await play.sleep(minutes=55)
            play.scheduler.apply(Setup((job(),), Late(hourly=["a"]), new))
            await play.sleep(minutes=7)
            reasons = {each.reason for each in play.scheduler.waiting}
            await play.sleep(minutes=10)
        assert not old.began
        assert [name for name, _ in new.began] == ["a"]
        assert reasons == {"which VMs the new configuration has is not known yet"}

    in_virtual_time(main)


def test_what_the_old_setup_fails_for_holds_nothing_of_the_new(tmp_path: Path) -> None:
    class Refused(Acting):
        async def run(self, job: str, vm: JobVm, on_event: object) -> None:  # type: ignore[override]
            await asyncio.sleep(120)
            raise CredentialsError("the password is wrong")

    async def main(loop: VirtualLoop) -> None:
        new = Acting()
        async with acting(loop, tmp_path, job(), inventory=Listed(hourly=["a"]), runner=Refused()) as play:
            await play.sleep(hours=1, minutes=1)
            play.scheduler.apply(Setup((job(),), Listed(hourly=["a"]), new))  # with the right password
            await play.sleep(minutes=3)
            runs = play.state.runs()
        assert [run.state for run in runs] == [RunState.SUCCEEDED, RunState.FAILED]
        assert len(new.began) == 1

    in_virtual_time(main)
