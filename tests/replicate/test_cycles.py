"""Cycle after cycle, to each target: what it holds is what the guest's disks held when they were frozen."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ntxengine.capture import Audit
from ntxengine.errors import ChecksumMismatch, NtxError, OptionsError, RepositoryError
from ntxengine.events import Event, Stage, StageBegan
from ntxengine.sim.config import DiskConfig
from ntxengine.sim.faults import HiddenRegion
from tests.capture.lab import MIB, Lab, Witness
from tests.replicate.replicating import Killed, KillsAt, Replicating
from tests.support.killable import killable

pytestmark = pytest.mark.slow


@pytest.fixture
def nbd(v4_lab: Lab) -> Iterator[Replicating]:
    """A replica in exports of NBD servers that hold something else."""
    with killable("memory", "16M") as one, killable("memory", "16M") as other:
        one.start()
        other.start()
        text = f"scsi.0={one.uri} scsi.1={other.uri}"
        yield Replicating(v4_lab, text, overwrite=True)


@pytest.fixture(params=["raw", "beside", "qcow2", "vmware", "nbd"])
def following(request: pytest.FixtureRequest) -> Replicating:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    return found


async def test_generations_are_the_disks(following: Replicating) -> None:
    lab = following.lab
    first = await following.run()
    following.assert_equal()
    assert first.replica.generation == 1
    lab.write(0, 2 * MIB, os.urandom(70_000))
    lab.write(1, 4096, os.urandom(512))
    lab.zero(0, 4 * MIB, MIB)
    lab.write(0, 6 * MIB - 65536, bytes(65536))

    second = await following.run()

    following.assert_equal()
    following.assert_clean()
    assert second.replica.generation == 2
    assert second.reference_id == first.replica.recovery_point_id
    assert 0 < second.replica.figures.bytes_written < MIB
    assert second.replica.verified is not None


async def test_cycle_in_which_nothing_changed_writes_nothing(following: Replicating) -> None:
    await following.run()

    cycle = await following.run()

    assert cycle.replica.generation == 2
    assert cycle.replica.figures.bytes_written == 0
    following.assert_equal()
    following.assert_clean()


async def test_disk_that_grew(following: Replicating) -> None:
    lab = following.lab
    await following.run()
    lab.resize(1, 5 * MIB)
    lab.write(1, 4 * MIB, os.urandom(4096))

    await following.run()

    following.assert_equal()
    following.assert_clean()


async def test_disk_that_shrank_is_written_anew(following: Replicating) -> None:
    lab = following.lab
    await following.run()
    lab.resize(0, 6 * MIB)
    lab.write(0, 0, os.urandom(4096))

    await following.run()

    following.assert_equal()
    following.assert_clean()


async def test_lost_tracking_reads_all_and_writes_what_differs(following: Replicating) -> None:
    lab = following.lab
    first = await following.run()
    await lab.prism.delete_recovery_point(first.replica.recovery_point_id)
    lab.write(0, 2 * MIB, os.urandom(65536))
    lab.zero(0, 4 * MIB, MIB)

    second = await following.run()

    assert second.replica.figures.bytes_written == 65536
    assert second.replica.figures.tracking["scsi.0"] == "digest-scan"
    assert any("no longer has recovery point" in text for text in following.witness.warnings)
    following.assert_equal()
    following.assert_clean()


async def test_lost_tracking_that_is_to_be_full_writes_zeros_too(following: Replicating) -> None:
    lab = following.lab
    first = await following.run()
    await lab.prism.delete_recovery_point(first.replica.recovery_point_id)
    lab.zero(0, 0, MIB)

    await following.run(on_lost_tracking="full")

    following.assert_equal()
    following.assert_clean()


@pytest.mark.parametrize("following", ["raw", "beside", "qcow2", "vmware"], indirect=True)  # not where each is named
async def test_disks_that_are_added_and_removed(following: Replicating, tmp_path: Path) -> None:
    lab = following.lab
    await following.run()
    disks = lab.sim.config.vms[0].disks
    added = tmp_path / "disks" / "added.raw"
    added.write_bytes(os.urandom(MIB))
    disks.append(DiskConfig(added))
    lab.reconfigure()
    await following.run()
    following.assert_equal()
    disks.pop()
    lab.reconfigure()

    await following.run()

    assert any("no longer has scsi.2" in text for text in following.witness.warnings)
    following.assert_equal()
    following.assert_clean()
    images = [path for path in following.folder().iterdir() if not path.name.startswith(".")]
    ends = (".raw", ".qcow2", "-flat.vmdk")
    assert len({path.name.partition(".g")[0] for path in images if path.name.endswith(ends)}) == 2


@pytest.mark.parametrize("stage", [Stage.CHANGES, Stage.ATTACH, Stage.COPY, Stage.VERIFY, Stage.COMMIT])
async def test_cycle_that_ends_anywhere_is_followed_by_one_that_is_right(following: Replicating, stage: Stage) -> None:
    lab = following.lab
    await following.run()
    lab.write(0, 2 * MIB, os.urandom(70_000))
    lab.write(1, 0, os.urandom(512))
    following.make_witness = lambda: KillsAt(stage)
    with pytest.raises(Killed):
        await following.run()
    following.make_witness = Witness
    lab.zero(0, 2 * MIB, MIB)

    cycle = await following.run()

    assert cycle.replica.generation == 2
    following.assert_equal()
    following.assert_clean()


async def test_target_that_keeps_is_whole_while_a_cycle_is_dead(qcow2: Replicating, beside: Replicating) -> None:
    for following in (qcow2, beside):
        await following.run()
        frozen = following.lab.guest()
        following.lab.write(0, 2 * MIB, os.urandom(70_000))
        following.make_witness = lambda: KillsAt(Stage.COMMIT)

        with pytest.raises(Killed):
            await following.run()

        following.make_witness = Witness
        following.assert_equal(frozen)
        assert following.dead is not None
        assert following.dead.keeps


async def test_overlays_are_on_top_of_each_other(qcow2: Replicating) -> None:
    await qcow2.run()
    qcow2.lab.write(0, 0, os.urandom(4096))

    await qcow2.run()

    files = {disk.label: [image.name for image in disk.files] for disk in qcow2.replica.disks}
    assert [name.partition(".g")[2] for name in files["scsi.0"]] == ["2.qcow2", "1.qcow2"]
    assert [name.partition(".g")[2] for name in files["scsi.1"]] == ["1.qcow2"]


async def test_replica_that_lost_bytes_is_found_by_the_sample_and_mended(raw: Replicating) -> None:
    await raw.run()
    disk = raw.replica.disks[0]
    with (raw.folder() / disk.files[0].name).open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"damaged")
    raw.lab.write(0, 0, os.urandom(4096))
    with pytest.raises(ChecksumMismatch, match="the next cycle reads all of it"):
        await raw.run()
    assert raw.replica.disks[0].is_doubted

    await raw.run()

    raw.assert_equal()
    raw.assert_clean()
    assert not raw.replica.disks[0].is_doubted


async def test_overlay_on_damaged_images_is_followed_by_a_new_image(qcow2: Replicating) -> None:
    await qcow2.run()
    disk = qcow2.replica.disks[0]
    image = qcow2.folder() / disk.files[0].name
    with image.open("r+b") as file:  # a cluster of data: our images begin with them
        file.seek(128 * 1024)
        file.write(os.urandom(512))
    qcow2.lab.write(0, 0, os.urandom(4096))
    with pytest.raises(ChecksumMismatch):
        await qcow2.run()

    await qcow2.run()

    qcow2.assert_equal()
    assert len(qcow2.replica.disks[0].files) == 1


class Pauses(Witness):
    """Lets a server begin no request any more once a stage has begun for the first disk; `log` has its requests."""

    def __init__(self, stage: Stage, control: Path, log: Path) -> None:
        super().__init__()
        self._stage = stage
        self._control = control
        self._log = log
        self.before: str | None = None

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, StageBegan) and event.stage is self._stage and event.disk_label == "scsi.0":
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(self._control))
                control.sendall(b"p")
                assert control.recv(1) == b"P"
            self.before = self._log.read_text()  # here: the copy begins when this returns


@pytest.mark.parametrize(("stage", "request_name"), [(Stage.COPY, " Write "), (Stage.VERIFY, " Read ")])
async def test_server_that_dies_and_comes_back_is_gone_on_with(
    stage: Stage, request_name: str, v4_lab: Lab, tmp_path: Path
) -> None:
    files, log = [tmp_path / "one.img", tmp_path / "other.img"], tmp_path / "requests"
    for file in files:
        file.write_bytes(os.urandom(16 * MIB))
    with tempfile.TemporaryDirectory(prefix="ntx-test-") as folder:
        control = Path(folder) / "control"
        watched = ("--filter=log", "--filter=pause", "file", f"logfile={log}", f"pause-control={control}")
        with killable(*watched, str(files[0])) as one, killable("file", str(files[1])) as other:
            one.start()
            other.start()
            nbd = Replicating(v4_lab, f"scsi.0={one.uri} scsi.1={other.uri}", overwrite=True)
            pausing = Pauses(stage, control, log)
            nbd.make_witness = lambda: pausing
            cycle = asyncio.create_task(nbd.run())
            await until(lambda: pausing.before is not None)
            before = pausing.before or ""
            await until(lambda: request_name in log.read_text()[len(before) :])
            one.kill()
            control.unlink()
            one.start()

            await cycle

            nbd.assert_equal()
            assert any("trying again" in text for text in nbd.witness.warnings)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_server_that_stays_away_ends_the_cycle(nbd: Replicating) -> None:
    await nbd.run()
    nbd.lab.write(0, 0, os.urandom(4096))
    folder = Path(nbd.text.split("socket=")[1].split()[0]).parent
    (folder / "s").rename(folder / "away")

    with pytest.raises(NtxError):
        await nbd.run()

    (folder / "away").rename(folder / "s")
    await nbd.run()
    nbd.assert_equal()


async def test_server_that_holds_something_is_not_overwritten_unasked(v4_lab: Lab) -> None:
    with killable("memory", "16M") as one:
        one.start()
        with pytest.raises(OptionsError, match="--overwrite"):
            await Replicating(v4_lab, f"scsi.0={one.uri} scsi.1={one.uri}").run()
        with pytest.raises(OptionsError, match=r"is one export, and the VM has 2 disks"):
            await Replicating(v4_lab, one.uri, overwrite=True).run()
        assert v4_lab.recovery_points() == []


async def test_file_that_somebody_else_changed_is_refused(raw: Replicating) -> None:
    await raw.run()
    file = raw.folder() / raw.replica.disks[0].files[0].name
    os.truncate(file, MIB)

    with pytest.raises(RepositoryError, match="somebody else changed it"):
        await raw.run()

    file.unlink()
    with pytest.raises(RepositoryError, match="is missing"):
        await raw.run()


async def test_state_that_is_lost_makes_the_target_be_read(raw: Replicating) -> None:
    await raw.run()
    for path in raw.state.path.iterdir():
        path.unlink()
    raw.lab.write(0, 0, os.urandom(4096))

    cycle = await raw.run()

    assert cycle.replica.generation == 1
    assert cycle.replica.figures.bytes_written <= 65536
    raw.assert_equal()
    raw.assert_clean()


async def test_two_replicas_of_a_vm_keep_each_its_reference(raw: Replicating, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Replicating(raw.lab, f"kvm:{tmp_path / 'other'}", "qcow2")
    await raw.run()
    await other.run()
    raw.lab.write(0, 0, os.urandom(4096))

    second, third = await raw.run(), await other.run()

    assert second.reference_id
    assert third.reference_id
    raw.assert_equal()
    other.assert_equal()


async def test_silent_tracker_is_found_by_the_audit(raw: Replicating) -> None:
    await raw.run()
    raw.lab.sim.faults.hidden.append(HiddenRegion(2 * MIB, 65536, question="changed"))
    raw.lab.write(0, 2 * MIB, os.urandom(65536))

    await raw.run(audit=Audit(share=1.0))

    assert any("an audit found that 1 of" in text for text in raw.witness.warnings)
    raw.assert_equal()
    raw.assert_clean()
    assert raw.replica.disks[0].audit is not None
