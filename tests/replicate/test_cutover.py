"""Cutting over: the last delta is proved, nothing follows, and a test copy is isolated and lets the replica follow."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ntxengine.capture import CaptureOptions
from ntxengine.errors import NtxError, OptionsError
from ntxengine.events import Stage
from ntxengine.replicate import isolated as isolated_copy
from ntxengine.replicate.cutover import CutOver, cut_over, follow_again
from ntxengine.replicate.isolated import IsolatedCopy, make_isolated_copy
from ntxengine.replicate.options import ReplicateOptions
from tests.capture.lab import MIB, Witness
from tests.replicate.replicating import Killed, KillsAt, Replicating
from tests.support.cancelling import cancelled_within


@pytest.fixture(params=["raw", "beside", "qcow2"])
def following(request: pytest.FixtureRequest) -> Replicating:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    return found


async def over(following: Replicating, *, may_run: bool = False) -> CutOver:
    lab = following.lab
    following.witness = following.make_witness()
    return await cut_over(
        lab.prism,
        lab.repository,
        await lab.prism.vm(lab.vm_id),
        following.target,
        options=ReplicateOptions(CaptureOptions()),
        attacher=lab.attacher,
        may_run=may_run,
        on_event=following.witness,
    )


async def isolated(following: Replicating, into: Path | None = None) -> IsolatedCopy:
    lab = following.lab
    vm = await lab.prism.vm(lab.vm_id)
    return await make_isolated_copy(lab.repository, vm, following.target, into=into)


def shut_down(following: Replicating) -> None:
    following.lab.sim.config.vms[0].power = "off"


async def test_guest_that_was_shut_down_is_cut_over_to_and_nothing_follows(following: Replicating) -> None:
    await following.run()
    following.lab.write(0, MIB, os.urandom(65536))
    shut_down(following)

    done = await over(following)

    following.assert_equal()
    following.assert_clean()
    assert done.replica.generation == 2
    assert done.seconds_before == 0
    assert done.seconds_stopped > 0
    with pytest.raises(OptionsError, match="--follow-again"):
        await following.run()
    with pytest.raises(OptionsError, match="was cut over to"):
        await over(following)


async def test_guest_that_runs_is_refused_or_has_a_cycle_before(raw: Replicating) -> None:
    await raw.run()
    with pytest.raises(NtxError, match="shut its guest down"):
        await over(raw)

    done = await over(raw, may_run=True)

    assert done.was_running
    assert done.replica.generation == 3
    raw.assert_equal()


async def test_cutover_that_fails_leaves_a_replica_that_follows(following: Replicating) -> None:
    await following.run()
    following.lab.write(0, MIB, os.urandom(65536))
    shut_down(following)
    following.make_witness = lambda: KillsAt(Stage.VERIFY)
    with pytest.raises(Killed):
        await over(following)
    following.make_witness = Witness

    cycle = await following.run()

    assert cycle.replica.cut_over_at is None
    following.assert_equal()
    following.assert_clean()


async def test_replica_that_ran_follows_again(following: Replicating) -> None:
    await following.run()
    shut_down(following)
    await over(following)
    if following.form == "raw":  # the machine there has written
        with (following.folder() / following.replica.disks[0].files[0].name).open("r+b") as file:
            file.seek(2 * MIB)
            file.write(os.urandom(100_000))
    lab = following.lab
    await follow_again(lab.repository, await lab.prism.vm(lab.vm_id), following.target)

    await following.run()

    following.assert_equal()


async def test_test_copy_is_isolated_and_the_replica_follows_on(following: Replicating) -> None:
    await following.run()
    frozen = following.lab.guest()

    copy = await isolated(following)

    assert copy.shares_blocks is (following.text != f"kvm:{following.lab.disk_files[0].parents[1] / 'kvm'}")
    following.lab.write(0, 0, os.urandom(2 * MIB))
    for _ in range(2):
        await following.run()
    following.assert_equal()
    for label, content in zip(sorted(copy.files), frozen, strict=True):
        expected = following.lab.sim.state_dir / "expected.raw"
        expected.write_bytes(content)
        following.compare(str(copy.files[label]), expected)
    text = copy.definition.read_text()
    assert copy.name in text
    assert following.lab.vm_id not in text
    valid = subprocess.run(
        ["virt-xml-validate", copy.definition, "domain"], capture_output=True, text=True, check=False
    )
    assert valid.returncode == 0, valid.stdout + valid.stderr
    shutil.rmtree(copy.folder)


async def test_test_copy_of_what_is_damaged_is_refused_and_nothing_is_left(raw: Replicating, tmp_path: Path) -> None:
    await raw.run()
    with (raw.folder() / raw.replica.disks[0].files[0].name).open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"damaged")
    (tmp_path / "copies").mkdir()

    with pytest.raises(NtxError, match="the replica is not what was frozen"):
        await isolated(raw, tmp_path / "copies")

    assert list((tmp_path / "copies").iterdir()) == []


async def test_test_copy_that_is_cancelled_as_it_begins_leaves_no_folder(
    raw: Replicating, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await raw.run()
    (tmp_path / "copies").mkdir()

    await cancelled_within(monkeypatch, isolated_copy, "_make_folder", isolated(raw, tmp_path / "copies"))

    assert list((tmp_path / "copies").iterdir()) == []
