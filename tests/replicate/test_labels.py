"""Labels of disks that the cluster gives anew: each disk of a replica goes on with the place that it has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.errors import OptionsError
from ntxengine.events import Stage
from ntxengine.replicate.isolated import make_isolated_copy
from ntxengine.sim.config import DiskConfig
from tests.capture.lab import DATA_SIZE, MIB
from tests.replicate.conftest import FOLLOWING
from tests.replicate.replicating import Replicating
from tests.replicate.test_must_hold import die


@pytest.fixture(params=FOLLOWING)
def following(request: pytest.FixtureRequest) -> Replicating:
    """A target, of a VM whose disks keep their ids when they get other labels."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    for number, disk in enumerate(found.lab.sim.config.vms[0].disks):
        disk.file_name = disk.device = f"disk-{number}"
    found.lab.reconfigure()
    return found


def by_label(server: Replicating, **exports: str) -> Replicating:
    """Return a replica whose target says which disk goes to which export of a server."""
    uris = (f"scsi.{label[-1]}={server.text.replace('{disk}', export)}" for label, export in exports.items())
    return Replicating(server.lab, " ".join(uris), overwrite=True)


def swap_labels(following: Replicating) -> None:
    disks = following.lab.sim.config.vms[0].disks
    disks[0].index, disks[1].index = 1, 0
    following.lab.reconfigure()


def files(following: Replicating) -> dict[str, str]:
    return {disk.disk_id: disk.files[-1].name for disk in following.replica.disks}


def assert_equal(following: Replicating) -> None:
    """Compare the disks, whose labels were swapped."""
    following.lab.sim.config.vms[0].disks.reverse()
    following.assert_equal()


async def test_disk_that_gets_another_label_keeps_its_place(following: Replicating) -> None:
    await following.run()
    before = files(following)
    swap_labels(following)
    for number in range(2):
        following.lab.write(number, 2 * MIB, os.urandom(65536))

    cycle = await following.run()

    assert cycle.reference_id
    assert files(following) == before
    assert_equal(following)
    following.assert_clean()


@pytest.mark.parametrize("written", [0, None])
async def test_disk_that_is_not_written_gets_its_other_label_too(
    following: Replicating, written: int | None, tmp_path: Path
) -> None:
    await following.run()
    swap_labels(following)
    if written is not None:
        following.lab.write(written, 2 * MIB, os.urandom(65536))

    await following.run()

    assert len({disk.label for disk in following.replica.disks}) == 2
    assert set(following.replica.figures.tracking) == {"scsi.0", "scsi.1"}
    vm = await following.lab.prism.vm(following.lab.vm_id)
    copy = await make_isolated_copy(following.lab.repository, vm, following.target, into=tmp_path)
    assert set(copy.files) == {"scsi.0", "scsi.1"}
    assert_equal(following)


async def test_uri_by_label_is_that_of_the_disk_that_had_it_first(server: Replicating) -> None:
    for number, disk in enumerate(server.lab.sim.config.vms[0].disks):
        disk.file_name = disk.device = f"disk-{number}"
    server.lab.reconfigure()
    named = by_label(server, scsi_0="scsi.1", scsi_1="scsi.0")
    await named.run()
    before = files(named)
    swap_labels(named)
    for number in range(2):
        named.lab.write(number, 2 * MIB, os.urandom(65536))

    await named.run()

    assert files(named) == before
    assert_equal(named)


async def test_two_disks_in_one_export_are_refused_however_it_is_written(server: Replicating) -> None:
    first = server.text.replace("{disk}", "scsi.0")
    same = first.replace("///scsi.0", "///scsi%2E0")
    assert same != first

    with pytest.raises(OptionsError, match="would go to one export"):
        await Replicating(server.lab, f"scsi.0={first} scsi.1={same}", overwrite=True).run()

    assert server.lab.recovery_points() == []


def put_another(server: Replicating, folder: Path) -> DiskConfig:
    """Put another disk in the place of the last one, and return that: each has an id of its own."""
    disks = server.lab.sim.config.vms[0].disks
    first, other = disks[-1], DiskConfig(folder / "other.raw")
    first.file_name = first.device = "first"
    other.file_name = other.device = "other"
    other.path.write_bytes(os.urandom(DATA_SIZE))
    disks[-1] = other
    return first


@pytest.mark.parametrize("was_dead", [False, True], ids=["", "it was being written itself"])
async def test_disk_comes_back_after_a_dead_cycle_wrote_another_in_its_place(
    server: Replicating, tmp_path: Path, was_dead: bool
) -> None:
    disks = server.lab.sim.config.vms[0].disks
    disks[-1].file_name = disks[-1].device = "first"
    server.lab.reconfigure()
    await server.run()
    first = server.replica.disks[-1].disk_id
    if was_dead:
        server.lab.write(1, MIB, os.urandom(65536))
        await die(server, Stage.COMMIT)
    held = put_another(server, tmp_path / "disks")
    server.lab.reconfigure()
    await die(server, Stage.COMMIT)
    assert server.dead is not None
    assert any(disk.disk_id != first and disk.label == "scsi.1" for disk in server.dead.disks)
    disks[-1] = held
    server.lab.reconfigure()

    await server.run(sample_bytes=0)

    assert server.replica.disks[-1].disk_id == first
    server.assert_equal()
    server.assert_clean()


async def test_export_of_a_disk_that_is_new_is_not_overwritten_unasked(server: Replicating, tmp_path: Path) -> None:
    await server.run()
    careful = Replicating(server.lab, server.text)
    await careful.run()
    added = tmp_path / "disks" / "added.raw"
    added.write_bytes(os.urandom(MIB))
    server.lab.sim.config.vms[0].disks.append(DiskConfig(added))
    server.lab.reconfigure()
    before = (tmp_path / "export-2").read_bytes()

    with pytest.raises(OptionsError, match=r"holds for disk scsi\.2 .* would be lost: allow that with --overwrite"):
        await careful.run()

    assert (tmp_path / "export-2").read_bytes() == before


async def test_export_of_another_label_is_not_overwritten_since_a_dead_cycle_wrote_that_of_the_first(
    server: Replicating, tmp_path: Path
) -> None:
    disk = server.lab.sim.config.vms[0].disks[-1]
    disk.file_name = disk.device = "first"
    server.lab.reconfigure()
    await die(server, Stage.COMMIT)
    careful = Replicating(server.lab, server.text)
    disk.index = 2
    server.lab.reconfigure()
    before = (tmp_path / "export-2").read_bytes()

    with pytest.raises(OptionsError, match=r"holds for disk scsi\.2 .* would be lost: allow that with --overwrite"):
        await careful.run()

    assert (tmp_path / "export-2").read_bytes() == before
    disk.index = 1
    server.lab.reconfigure()
    await careful.run()
    careful.assert_equal()
