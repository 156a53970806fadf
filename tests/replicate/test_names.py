"""Names that a commit gives: what a dead cycle left under another name is never taken for what was committed."""

from __future__ import annotations

import os

import pytest

from ntxengine.events import Stage
from ntxengine.replicate.state import ReplicaState
from ntxengine.replicate.targets.raw import RawPlace
from tests.capture.lab import MIB
from tests.replicate.replicating import Killed, Replicating
from tests.replicate.test_must_hold import die


async def test_file_that_a_dead_cycle_left_does_not_get_the_name_of_the_committed_one(
    beside: Replicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of generation 2 renames; the cycle after it dies, and the guest takes back what it had written."""

    async def give_up(self: RawPlace) -> None:
        """Do nothing, as after SIGKILL."""

    lab = beside.lab
    await beside.run()
    lab.write(0, 0, os.urandom(65536))
    await beside.run()
    assert beside.replica.renames
    before = lab.guest()[0][MIB : MIB + 65536]
    lab.write(0, MIB, os.urandom(65536))
    with monkeypatch.context() as patched:
        patched.setattr(RawPlace, "give_up", give_up)
        await die(beside, Stage.COMMIT)
    lab.write(0, MIB, before)

    await beside.run()

    beside.assert_equal()
    beside.assert_clean()


@pytest.mark.parametrize("size", [5 * MIB, 2 * MIB])
async def test_disk_that_was_resized_has_its_name_after_a_kill_behind_the_commit(
    beside: Replicating, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def killed(self: ReplicaState) -> None:
        raise Killed

    lab = beside.lab
    await beside.run()
    lab.resize(1, size)
    with monkeypatch.context() as patched:
        patched.setattr(ReplicaState, "remove_intent", killed)
        with pytest.raises(Killed):
            await beside.run()
    assert beside.replica.generation == 2

    await beside.run()

    beside.assert_equal()
    beside.assert_clean()
