"""The folder of a VM: what is whose in it, and a replica in it whose state is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import NtxError, OptionsError, TargetError
from ntxengine.events import Stage
from ntxengine.replicate import cycle as cycles
from ntxengine.replicate import plan as plans
from ntxengine.replicate.isolated import make_isolated_copy
from ntxengine.replicate.plan import ReplicaPlan, plan_replica
from ntxengine.replicate.state import Replica, ReplicaState
from ntxengine.replicate.targets.folder import MARKER_FILE
from ntxengine.sim.config import DiskConfig, GroupConfig
from tests.capture.lab import MIB
from tests.replicate.replicating import Replicating


@pytest.fixture(params=["raw", "qcow2", "vmware"])
def following(request: pytest.FixtureRequest) -> Replicating:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    return found


async def test_files_of_a_person_beside_those_of_a_replica_stay(following: Replicating) -> None:
    await following.run()
    ends = (".raw", ".qcow2", ".vmdk", "-flat.vmdk", ".vmx", ".xml")
    mine = [following.folder() / f"{stem}{end}" for stem in ("scsi.0-20261130", "db01-original") for end in ends]
    for path in mine:
        path.write_bytes(b"mine")

    for _ in range(2):
        await following.run()

    assert [path.read_bytes() for path in mine] == [b"mine"] * len(mine)
    following.assert_clean()


async def test_definition_of_an_older_generation_does_not_stay(
    following: Replicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would name images that are below others by now, or that are not there."""
    await following.run()
    definition = following.folder() / following.replica.definition
    monkeypatch.setattr(plans, "read_machine", lambda *_, **__: plans.Machine(following.lab.vm_id, "db01"))
    following.lab.write(0, 0, os.urandom(4096))

    cycle = await following.run()

    assert cycle.replica.definition == ""
    assert any("the configuration of the VM does not have disk scsi.0" in text for text in cycle.warnings)
    assert not definition.exists()
    following.assert_equal()


@pytest.mark.parametrize("is_changed", [False, True])
async def test_replica_whose_state_is_lost_begins_anew_once_its_marker_is_removed(
    following: Replicating, is_changed: bool
) -> None:
    await following.run()
    folder = following.folder()
    shutil.rmtree(following.state.path)
    (folder / MARKER_FILE).unlink()
    if is_changed:
        following.lab.write(0, MIB, os.urandom(65536))

    cycle = await following.run()

    assert cycle.replica.generation == 1
    following.assert_equal()
    following.assert_clean()


async def test_kill_while_a_folder_is_marked_leaves_one_that_is_gone_on_with(following: Replicating) -> None:
    target = following.target
    folder = Path(following.text.partition(":")[2]) / target.name_for("db01", following.lab.vm_id)
    folder.mkdir()
    left = folder / f"{MARKER_FILE}.0a1b2c3d.new"
    left.write_bytes(b"{")

    await following.run()

    following.assert_equal()
    assert not left.exists()


async def test_two_first_cycles_with_states_of_their_own_do_not_both_write(
    raw: Replicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def plan(*arguments: Any, **options: Any) -> ReplicaPlan:
        found = await plan_replica(*arguments, **options)
        await raw.target.claim(plans.dataclasses.replace(found.named, state_id="another"))
        return found

    monkeypatch.setattr(cycles, "plan_replica", plan)

    with pytest.raises(OptionsError, match="is a replica whose state is in another folder"):
        await raw.run()

    assert Stage.ATTACH not in raw.witness.stages
    assert raw.lab.recovery_points() == []


async def test_commit_that_is_named_and_not_synced_takes_nothing_back(
    beside: Replicating, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beside.run()
    beside.lab.write(0, MIB, os.urandom(65536))
    write_replica = ReplicaState.write_replica

    def write(self: ReplicaState, replica: Replica) -> None:
        write_replica(self, replica)
        raise TargetError("syncing failed: Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(ReplicaState, "write_replica", write)
        with pytest.raises(TargetError, match="syncing failed"):
            await beside.run()
    assert beside.replica.generation == 2

    cycle = await beside.run()

    assert cycle.reference_id
    beside.assert_equal()
    beside.assert_clean()


async def test_delta_that_is_written_in_place_needs_no_room(raw: Replicating, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = raw.lab
    lab.write(0, 0, os.urandom(8 * MIB))
    await raw.run()
    asked = []

    async def check_room(self: object, named: object, bytes_needed: int) -> None:
        asked.append(bytes_needed)

    monkeypatch.setattr(type(raw.target), "check_room", check_room)
    lab.write(0, 0, os.urandom(8 * MIB))

    await raw.run()

    assert max(asked) < MIB
    raw.assert_equal()


async def test_disk_that_the_vm_has_no_more_is_in_a_copy_and_not_in_its_machine(
    following: Replicating, tmp_path: Path
) -> None:
    await following.run()
    following.lab.sim.config.vms[0].disks.pop()
    following.lab.reconfigure()
    vm = await following.lab.prism.vm(following.lab.vm_id)

    copy = await make_isolated_copy(following.lab.repository, vm, following.target, into=tmp_path)

    assert copy.files["scsi.1"].exists()
    assert copy.files["scsi.1"].name not in copy.definition.read_text()
    assert any("no longer has disk scsi.1" in text for text in copy.not_carried_over)


async def test_group_of_which_nothing_is_told_keeps_its_place_in_the_replica(raw: Replicating, tmp_path: Path) -> None:
    lab = raw.lab
    disk = DiskConfig(tmp_path / "group.raw", size=MIB)
    disk.path.write_bytes(os.urandom(MIB))
    lab.sim.config.vms[0].volume_groups = 0
    lab.sim.config.volume_groups = [GroupConfig("data", disks=[disk], vms=["db01"])]
    lab.reconfigure()
    await raw.run()
    files = {disk.label: raw.folder() / disk.files[0].name for disk in raw.replica.disks}
    lab.sim.config.group_disks_in_recovery_point = False

    with pytest.raises(NtxError, match=r"tells nothing of disk vg:data\.0 .*, which the replica has"):
        await raw.run()

    assert files["vg:data.0"].read_bytes() == disk.path.read_bytes()
    assert len(lab.recovery_points()) == 1
    await raw.run(volume_groups=False)
    assert not files["vg:data.0"].exists()
