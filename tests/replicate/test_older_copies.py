"""A target, or a state, that somebody put back to an older copy: what is there is read, and nothing of it believed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ntxengine.errors import NtxError
from ntxengine.events import Stage
from ntxengine.replicate.isolated import make_isolated_copy
from ntxengine.replicate.status import replicas_in
from ntxengine.replicate.targets.folder import MARKER_FILE
from ntxengine.replicate.verify import verify_replica
from tests.capture.lab import MIB
from tests.replicate.replicating import Replicating
from tests.replicate.test_must_hold import die


@pytest.fixture
def following(request: pytest.FixtureRequest) -> Replicating:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    return found


def put_back(copy: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)


async def put_back_after_a_cycle(following: Replicating, folder: Path, copy: Path) -> None:
    """Let a folder be what it was before a cycle that wrote."""
    shutil.copytree(folder, copy)
    following.lab.write(0, MIB, os.urandom(65536))
    await following.run()
    put_back(copy, folder)


@pytest.mark.parametrize("following", ["raw", "vmware"], indirect=True)
async def test_target_that_was_put_back_is_read(following: Replicating, tmp_path: Path) -> None:
    await following.run()
    await put_back_after_a_cycle(following, following.folder(), tmp_path / "copy")
    following.lab.write(0, 2 * MIB, os.urandom(4096))
    vm = await following.lab.prism.vm(following.lab.vm_id)
    with pytest.raises(NtxError, match="one of them is an older copy"):
        await make_isolated_copy(following.lab.repository, vm, following.target, into=tmp_path)

    cycle = await following.run(sample_bytes=0)

    assert any("one of them is an older copy" in text for text in cycle.warnings)
    following.assert_equal()
    following.assert_clean()


@pytest.mark.parametrize("following", ["raw", "qcow2"], indirect=True)
async def test_state_that_was_put_back_is_not_believed(following: Replicating, tmp_path: Path) -> None:
    await following.run()
    before = following.lab.guest()[0][MIB : MIB + 65536]
    await put_back_after_a_cycle(following, following.state.path, tmp_path / "copy")
    following.lab.write(0, MIB, before)

    cycle = await following.run(sample_bytes=0)

    assert any("one of them is an older copy" in text for text in cycle.warnings)
    following.assert_equal()


@pytest.mark.parametrize("following", ["raw", "qcow2"], indirect=True)
async def test_cycles_that_die_in_a_row_are_known(following: Replicating) -> None:
    await following.run()
    for stage in (Stage.COMMIT, Stage.COPY, Stage.FREEZE):
        following.lab.write(0, MIB, os.urandom(65536))
        await die(following, stage)

    cycle = await following.run()

    assert not any("older copy" in text for text in cycle.warnings)
    following.assert_equal()
    following.assert_clean()


@pytest.mark.parametrize("following", ["raw", "beside", "vmware"], indirect=True)
async def test_target_that_was_put_back_is_read_after_a_dead_cycle_too(following: Replicating, tmp_path: Path) -> None:
    await following.run()
    await put_back_after_a_cycle(following, following.folder(), tmp_path / "copy")
    await die(following, Stage.COMMIT)

    await following.run(sample_bytes=0)

    following.assert_equal()
    following.assert_clean()


@pytest.mark.parametrize("following", ["raw", "qcow2"], indirect=True)
async def test_nothing_newer_goes_because_of_a_state_that_was_put_back(following: Replicating, tmp_path: Path) -> None:
    await following.run()
    shutil.copytree(following.state.path, tmp_path / "copy")
    following.lab.write(0, MIB, os.urandom(65536))
    await following.run()
    newest = {path.name: path.read_bytes() for path in following.folder().iterdir()}
    put_back(tmp_path / "copy", following.state.path)
    (found,) = await replicas_in(following.lab.repository)

    with pytest.raises(NtxError, match="one of them is an older copy"):
        await verify_replica(following.lab.repository, found, following.target)
    await die(following, Stage.FREEZE)
    await die(following, Stage.ATTACH)

    there = {path.name: path.read_bytes() for path in following.folder().iterdir()}
    assert {name: there[name] for name in newest if name != MARKER_FILE} == {
        name: content for name, content in newest.items() if name != MARKER_FILE
    }
    await following.run()
    following.assert_equal()


async def test_images_stay_until_those_that_begin_anew_are_whole(qcow2: Replicating) -> None:
    for _ in range(2):
        await qcow2.run()
        qcow2.lab.write(0, MIB, os.urandom(65536))
    frozen = qcow2.lab.guest()
    await qcow2.run()
    chains = {path: path.read_bytes() for path in qcow2.folder().glob("*.qcow2")}
    newest = qcow2.replica.disks[0].files[0].name
    shutil.rmtree(qcow2.state.path)

    for stage in (Stage.COMMIT, Stage.VERIFY):
        await die(qcow2, stage)
        assert {path: path.read_bytes() for path in chains} == chains
    left = len(list(qcow2.path.glob("*/*.qcow2"))) if qcow2.path is not None else 0
    assert left <= len(chains) + len(frozen)
    await qcow2.run()

    assert newest not in qcow2.replica.names
    qcow2.assert_equal()
    qcow2.assert_clean()
    assert {path.name for path in qcow2.folder().glob("*.qcow2")} == qcow2.replica.names
