"""Places that a target refuses before anything is made: somebody else's, and those that nobody could name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import NtxError, OptionsError
from ntxengine.events import Stage
from ntxengine.files import durable
from ntxengine.replicate import cycle as cycles
from ntxengine.replicate.plan import ReplicaPlan, plan_replica
from ntxengine.replicate.state import ReplicaState
from ntxengine.replicate.targets import target_of
from tests.capture.lab import Lab, Witness
from tests.replicate.replicating import Killed, KillsAt, Replicating
from tests.replicate.test_must_hold import die
from tests.support.killable import killable

OTHER_VM = "00000000-0000-4000-8000-000000000002"


def other_way(server: Replicating) -> Replicating:
    """Return another replica at the same exports."""
    first, second = (server.text.replace("{disk}", f"scsi.{number}") for number in range(2))
    return Replicating(server.lab, f"scsi.1={first} scsi.0={second}", overwrite=True)


async def test_export_of_another_replica_is_refused_however_it_is_written(server: Replicating) -> None:
    await server.run()
    points = server.lab.recovery_points()

    with pytest.raises(OptionsError, match=rf"written to by another replica, {server.replica.id} of VM 'db01'"):
        await other_way(server).run()

    assert server.lab.recovery_points() == points
    server.assert_equal()
    await server.run()


async def test_export_that_a_dead_cycle_wrote_to_is_that_of_its_replica(server: Replicating) -> None:
    await die(server, Stage.COMMIT)

    with pytest.raises(OptionsError, match="written to by another replica"):
        await other_way(server).run()

    await server.run()
    server.assert_equal()


async def test_two_first_cycles_at_one_moment_do_not_both_write(
    server: Replicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of another VM said what it writes after we had looked, and before we said it."""
    with pytest.raises(Killed):
        server.make_witness = lambda: KillsAt(Stage.COMMIT)
        await server.run()
    server.make_witness = Witness
    dead = server.dead
    assert dead is not None
    server.state.remove_intent()

    async def plan(*arguments: Any, **options: Any) -> ReplicaPlan:
        found = await plan_replica(*arguments, **options)
        others = ReplicaState(server.lab.repository.path / OTHER_VM, "0" * 12)
        durable.make_folder(others.path.parent)
        others.make()
        others.write_intent(dataclasses.replace(dead, id=others.id, vm_id=OTHER_VM, vm_name="db02", disks=dead.disks))
        return found

    monkeypatch.setattr(cycles, "plan_replica", plan)
    with pytest.raises(OptionsError, match="written to by another replica, 000000000000 of VM 'db02'"):
        await server.run()

    assert Stage.ATTACH not in server.witness.stages
    assert server.dead is None


async def test_folder_is_relative_to_where_it_was_said(
    v4_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kvm").mkdir()
    monkeypatch.chdir(tmp_path)
    following = Replicating(v4_lab, "kvm:kvm", "raw")

    await following.run()

    following.assert_equal()
    definition = (following.folder() / following.replica.definition).read_text()
    assert f'file="{tmp_path / "kvm"}/' in definition
    assert following.target.id == target_of(f"kvm:{tmp_path / 'kvm'}").id


@pytest.mark.parametrize("name", ["two\nlines", "\udcff", "bell\x07"])
def test_folder_that_no_definition_can_name_is_refused(tmp_path: Path, name: str) -> None:
    for kind in ("kvm", "vmware", "ovf", "vhd"):
        with pytest.raises(OptionsError, match="no machine can be described there"):
            target_of(f"{kind}:{tmp_path / name}")


BLOCKS = ("--filter=blocksize-policy", "memory", "16M", "blocksize-minimum=4K", "blocksize-error-policy=error")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(("memory", "1M"), "1048576"), (BLOCKS, "takes whole blocks of 4096 bytes")],
    ids=["too-small", "blocks-of-4096"],
)
async def test_export_that_cannot_take_a_disk_is_refused_before_the_freeze(
    v4_lab: Lab, arguments: tuple[str, ...], match: str
) -> None:
    with killable(*arguments) as one, killable("memory", "16M") as other:
        one.start()
        other.start()
        # The second disk has no whole blocks of 4096 bytes.
        nbd = Replicating(v4_lab, f"scsi.1={one.uri} scsi.0={other.uri}", overwrite=True)

        with pytest.raises(NtxError, match=match):
            await nbd.run()

    assert v4_lab.recovery_points() == []
    assert Stage.FREEZE not in nbd.witness.stages
