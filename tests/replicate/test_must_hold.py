"""What must hold where a target is written in place: a dead cycle leaves nothing that the next one does not write."""

from __future__ import annotations

import os

import pytest

from ntxengine.events import Stage
from tests.capture.lab import MIB, Witness
from tests.replicate.conftest import FOLLOWING
from tests.replicate.replicating import Killed, KillsAt, Replicating


async def die(replicating: Replicating, stage: Stage, **options: object) -> None:
    replicating.make_witness = lambda: KillsAt(stage)
    with pytest.raises(Killed):
        await replicating.run(**options)  # type: ignore[arg-type]
    replicating.make_witness = Witness


@pytest.fixture(params=FOLLOWING)
def following(request: pytest.FixtureRequest) -> Replicating:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    return found


def was_written(following: Replicating) -> bool:
    """Return whether the target holds what the dead cycle read of the guest, which is still there."""
    try:
        following.assert_equal()
    except AssertionError:
        return False
    return True


async def test_block_that_a_dead_cycle_wrote_and_the_guest_reverted(following: Replicating) -> None:
    lab = following.lab
    await following.run()
    before = lab.guest()[0][MIB : MIB + 65536]
    lab.write(0, MIB, os.urandom(65536))
    await die(following, Stage.COMMIT)
    dead = following.dead
    assert dead is not None
    assert was_written(following) is not dead.keeps
    lab.write(0, MIB, before)

    cycle = await following.run()

    assert cycle.replica.generation == 2
    following.assert_equal()
    following.assert_clean()


async def test_block_that_a_dead_cycle_wrote_and_the_next_tracker_omits(following: Replicating) -> None:
    lab = following.lab
    await following.run()
    before = lab.guest()
    lab.write(0, MIB, os.urandom(65536))
    lab.zero(0, 4 * MIB, 128 * 1024)
    await die(following, Stage.COMMIT)
    # The guest puts all back: against the reference nothing has changed, and the tracker tells nothing.
    lab.disk_files[0].write_bytes(before[0])

    cycle = await following.run()

    assert cycle.replica.figures.bytes_changed == 0
    following.assert_equal()
    following.assert_clean()


async def test_dead_scan_makes_the_next_cycle_read_the_target(raw: Replicating) -> None:
    lab = raw.lab
    await raw.run()
    before = lab.guest()
    lab.write(0, MIB, os.urandom(65536))
    await die(raw, Stage.VERIFY, scan=True)
    lab.disk_files[0].write_bytes(before[0])

    await raw.run()

    assert any("the target is read first" in text for text in raw.witness.warnings)
    raw.assert_equal()
    raw.assert_clean()


async def test_intents_of_cycles_that_die_one_after_the_other_are_united(raw: Replicating) -> None:
    lab = raw.lab
    await raw.run()
    before = lab.guest()
    for number in range(3):
        lab.write(0, number * MIB, os.urandom(65536))
        await die(raw, Stage.VERIFY)
        lab.disk_files[0].write_bytes(before[0])

    await raw.run()

    raw.assert_equal()
    raw.assert_clean()


async def test_first_cycle_that_died_is_gone_on_with(raw: Replicating) -> None:
    await die(raw, Stage.VERIFY)
    raw.lab.write(0, 4 * MIB, bytes(65536))
    raw.lab.write(1, 0, os.urandom(4096))

    cycle = await raw.run()

    assert cycle.replica.generation == 1
    raw.assert_equal()
    raw.assert_clean()


async def test_disk_that_is_away_for_a_cycle_keeps_its_doubt(raw: Replicating) -> None:
    """The disk was in the dead cycle's intent, is not in the next one, which dies too, and comes back."""
    lab = raw.lab
    await raw.run()
    before = lab.guest()
    lab.write(1, 0, os.urandom(65536))
    await die(raw, Stage.VERIFY)
    disks = lab.sim.config.vms[0].disks
    taken = disks.pop()
    lab.reconfigure()
    lab.write(0, 0, os.urandom(4096))
    await die(raw, Stage.VERIFY)
    disks.append(taken)
    lab.reconfigure()
    lab.disk_files[1].write_bytes(before[1])

    await raw.run()

    raw.assert_equal()
