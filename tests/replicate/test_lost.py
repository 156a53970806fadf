"""What is lost or changed behind our back: the remedy that a message names is one that works."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ntxengine.errors import ChecksumMismatch, NotFoundError, OptionsError, RepositoryError
from ntxengine.replicate.isolated import make_isolated_copy
from ntxengine.replicate.state import StoredImage
from ntxengine.replicate.status import find_replica, replicas_in
from ntxengine.replicate.targets.folder import MARKER_FILE
from ntxengine.replicate.verify import ReplicaVerdict, verify_replica
from tests.capture.lab import MIB
from tests.replicate.replicating import Replicating

MISSING = "the manifest is missing"


@pytest.fixture(params=["raw", "qcow2", "vmware"])
def following(request: pytest.FixtureRequest) -> Replicating:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    return found


async def verified(following: Replicating) -> ReplicaVerdict:
    state = following.lab.repository
    return await verify_replica(state, await find_replica(state, "db01"), following.target)


def first_file(following: Replicating) -> Path:
    return following.folder() / following.replica.disks[0].files[0].name


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"damaged")


async def test_replica_that_was_moved_is_told_from_that_of_another_vm(raw: Replicating, tmp_path: Path) -> None:
    await raw.run()
    name, old = raw.replica.name, raw.replica.id
    (tmp_path / "kvm").rename(tmp_path / "moved")
    raw.text = f"kvm:{tmp_path / 'moved'}"
    marker = tmp_path / "moved" / name / MARKER_FILE

    with pytest.raises(OptionsError, match=rf"another --to or --format \({old}\)") as told:
        await raw.run()

    assert f"if it was moved here, remove {marker}" in str(told.value)
    marker.unlink()
    await raw.run()
    raw.assert_equal()


async def test_test_cutover_that_meets_damage_lets_the_next_cycle_mend_it(raw: Replicating) -> None:
    lab = raw.lab
    await raw.run()
    damage(first_file(raw))

    with pytest.raises(ChecksumMismatch, match="the next cycle mends it"):
        await make_isolated_copy(lab.repository, await lab.prism.vm(lab.vm_id), raw.target)

    assert [disk.is_doubted for disk in raw.replica.disks] == [True, False]
    await raw.run()
    raw.assert_equal()


async def test_test_cutover_shares_no_blocks_that_are_known_to_be_wrong(beside: Replicating) -> None:
    await beside.run()
    damage(first_file(beside))
    assert not (await verified(beside)).is_right
    vm = await beside.lab.prism.vm(beside.lab.vm_id)

    with pytest.raises(ChecksumMismatch, match="the replica is not what was frozen"):
        await make_isolated_copy(beside.lab.repository, vm, beside.target)


@pytest.mark.parametrize("size", [MIB, 100 * MIB])
async def test_file_of_another_size_that_verify_found_wrong_is_mended(raw: Replicating, size: int) -> None:
    await raw.run()
    path = first_file(raw)
    damage(path)
    os.truncate(path, size)

    assert not (await verified(raw)).is_right

    await raw.run()
    raw.assert_equal()
    assert (await verified(raw)).is_right


async def test_file_that_is_gone_is_written_anew_once_the_named_folder_is_removed(following: Replicating) -> None:
    await following.run()
    first_file(following).unlink()

    with pytest.raises(RepositoryError, match="is missing") as told:
        await following.run()

    named = f"{following.lab.vm_id}/replica-{following.target.id}"
    assert f"remove the folder {named} of its state" in str(told.value)
    shutil.rmtree(following.lab.repository.path / named)
    await following.run()
    following.assert_equal()


async def test_verify_without_a_manifest_says_what_mends_it(raw: Replicating) -> None:
    await raw.run()
    (raw.state.path / raw.replica.disks[0].manifest).unlink()

    with pytest.raises(RepositoryError, match=f"{MISSING}: .*the next cycle reads the target"):
        await verified(raw)

    await raw.run()
    assert (await verified(raw)).is_right


async def test_replica_whose_state_cannot_be_read_is_named_where_none_is_found(raw: Replicating) -> None:
    await raw.run()
    (raw.state.path / "replica.json").write_bytes(b"")

    with pytest.raises(NotFoundError, match=r"whose this is cannot be read: .*replica\.json: is damaged"):
        await find_replica(raw.lab.repository, "db01")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"name": "../../elsewhere"}, "names a file outside of the folder of its VM"),
        ({"disks": ["../../x.raw"]}, "names a file outside of the folder of its VM"),
        ({"frozen_at": "2026-11-30T20:00:00"}, "a time is of no time zone"),
    ],
)
async def test_state_that_leads_out_of_its_folder_is_damaged(raw: Replicating, told: dict[str, Any], said: str) -> None:
    await raw.run()
    replica = dataclasses.replace(raw.replica, **{key: each for key, each in told.items() if isinstance(each, str)})
    if names := told.get("disks"):
        images = tuple(StoredImage(name, replica.disks[0].manifest) for name in names)
        replica = dataclasses.replace(replica, disks=(dataclasses.replace(replica.disks[0], files=images),))
    raw.state.write_replica(replica)

    with pytest.raises(RepositoryError, match=f"is damaged: .*{said}.*; restore it, or remove the folder"):
        await raw.run()

    (found,) = await replicas_in(raw.lab.repository)
    assert said in found.problem
