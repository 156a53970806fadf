"""A copy with a journal goes on where it was, whatever ended it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import ntxengine
from ntxengine.dataplane import journal
from ntxengine.dataplane.journal import Journal
from ntxengine.files import durable
from tests.cli.ntx import ntx
from tests.copying.interrupting import (
    MIB,
    SIZE,
    SLOW,
    Files,
    interrupted,
    make_disk,
    start,
    stored_to,
    threads_there,
    wait_until,
)
from tests.support.servers import qemu_nbd, require

pytestmark = pytest.mark.usefixtures("often")


async def test_it_goes_on_where_it_was(copied: Files) -> None:
    stored = await copied.interrupt()
    assert copied.names() == ["journal", "journal.manifest", "source", "target.ntx-partial"]

    report = await copied.copy()

    assert copied.names() == ["source", "target"]
    assert copied.target.read_bytes() == copied.source.read_bytes()
    assert report.resumed_from == stored > 0
    assert report.bytes_done == SIZE - stored
    assert report.bytes_read <= SIZE - stored
    assert 0 <= report.bytes_repeated < SIZE - stored


async def test_what_lies_behind_what_is_stored_is_not_believed(copied: Files) -> None:
    stored = await copied.interrupt()
    with open(copied.partial, "r+b") as file:  # as if that, and its digests, had never reached the disk, or half
        file.seek(stored)
        file.write(os.urandom(SIZE - stored))
    with open(copied.manifest, "r+b") as file:
        file.seek(4096 + 16 * (stored // 65536))
        file.write(os.urandom(16 * -(-(SIZE - stored) // 65536)))

    await copied.copy()

    assert copied.target.read_bytes() == copied.source.read_bytes()


async def test_one_that_ends_at_once_leaves_nothing(copied: Files) -> None:
    task = asyncio.create_task(
        ntxengine.copy(copied.source, copied.target, journal=copied.journal, options=SLOW, retry_for_s=0)
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert copied.names() == ["source"]


async def test_nothing_stays_open_of_copies_that_were_interrupted(copied: Files) -> None:
    await copied.copy()  # what is opened once is open
    copied.target.unlink()
    before = (sorted(os.listdir("/proc/self/fd")), threads_there())

    for _ in range(3):
        await copied.interrupt()
    await copied.copy()

    assert sorted(os.listdir("/proc/self/fd")) == before[0]
    assert wait_until(lambda: threads_there() <= before[1])  # one that has opened a disk is about to end


async def test_an_image_goes_on(copied: Files) -> None:
    require("qemu-nbd", "qemu-img")
    image = copied.folder / "target.qcow2"
    await interrupted(copied.source, image, copied.journal, target_format="qcow2")
    assert copied.names() == [
        *("journal", "journal.manifest", "source", "target.qcow2.ntx-partial", "target.qcow2.ntx-partial.map")
    ]

    report = await ntxengine.copy(copied.source, image, journal=copied.journal, target_format="qcow2", verify=True)

    assert report.resumed_from > 0
    assert copied.names() == ["source", "target.qcow2"]
    subprocess.run(["qemu-img", "check", "-q", image], check=True)
    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copied.source, image], check=True)


async def test_the_disk_in_an_image_is_known_by_all_its_files(copied: Files) -> None:
    require("qemu-nbd", "qemu-img")
    image, base = copied.folder / "top.qcow2", copied.folder / "base.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", copied.source, base], check=True)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", image]
    subprocess.run(command, check=True)
    await interrupted(image, copied.target, copied.journal, source_format="qcow2")
    os.utime(base)

    with pytest.raises(ntxengine.OptionsError, match="mtime of the source was"):
        await ntxengine.copy(image, copied.target, journal=copied.journal, source_format="qcow2")


async def test_an_export_goes_on_if_it_is_the_same(copied: Files) -> None:
    disk = copied.folder / "disk"
    disk.write_bytes(os.urandom(SIZE))
    with qemu_nbd(disk) as uri:
        assert await interrupted(copied.source, uri, copied.journal) > 0
        kept = disk.read_bytes()
        disk.write_bytes(bytes(SIZE))
        with pytest.raises(ntxengine.OptionsError, match="does not hold what was copied to it") as raised:
            await ntxengine.copy(copied.source, uri, journal=copied.journal)
        assert f"remove {copied.journal} to begin again" in str(raised.value)
        disk.write_bytes(kept)

        report = await ntxengine.copy(copied.source, uri, journal=copied.journal)

    assert report.resumed_from > 0
    assert disk.read_bytes() == copied.source.read_bytes()


async def test_an_export_is_a_source_if_it_is_the_same(copied: Files) -> None:
    with qemu_nbd(copied.source) as uri:
        assert await interrupted(uri, copied.target, copied.journal) > 0
        make_disk(copied.source, seed=2)
        with pytest.raises(ntxengine.OptionsError, match="does not hold what was copied from it"):
            await ntxengine.copy(uri, copied.target, journal=copied.journal)
        make_disk(copied.source, seed=1)

        await ntxengine.copy(uri, copied.target, journal=copied.journal)

    assert copied.target.read_bytes() == copied.source.read_bytes()


# -------------------------------------------------------------------------------------------------- at the end


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("step", ["ntxengine.dataplane.open._publish", "ntxengine.dataplane.journal.remove"])
async def test_an_image_that_was_killed_at_its_end_is_finished(
    step: str, verify: bool, copied: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    async def copy() -> ntxengine.DiskCopyReport:
        return await ntxengine.copy(
            copied.source, copied.target, target_format="qcow2", journal=copied.journal, verify=verify
        )

    with monkeypatch.context() as patch:
        patch.setattr(step, die)
        with pytest.raises(Killed):
            await copy()

    report = await copy()

    assert report.bytes_done == 0
    assert copied.names() == ["source", "target"]
    subprocess.run(["qemu-img", "check", "-q", copied.target], check=True)
    compare = ["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copied.source, copied.target]
    subprocess.run(compare, check=True)


class Killed(BaseException):
    """What keeps a run from doing anything more."""


@pytest.mark.parametrize("step", ["ntxengine.dataplane.open._publish", "ntxengine.dataplane.journal.remove"])
async def test_one_that_was_killed_at_its_end_is_finished(
    step: str, copied: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(step, die)
        with pytest.raises(Killed):
            await copied.copy()
    has_name = "remove" in step
    new = "target" if has_name else "target.ntx-partial"
    assert copied.names() == ["journal", "journal.manifest", "source", new]

    report = await copied.copy()

    assert report.bytes_done == 0
    assert copied.names() == ["source", "target"]
    assert copied.target.read_bytes() == copied.source.read_bytes()


async def test_one_that_was_killed_before_its_name_was_synced_is_finished(
    copied: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal must not be gone while the name can be lost."""
    elsewhere = copied.folder / "elsewhere"
    elsewhere.mkdir()
    copied.journal, copied.manifest = elsewhere / "journal", elsewhere / "journal.manifest"
    await copied.interrupt()
    await finish_by_hand(copied)
    copied.partial.rename(copied.target)
    happened: list[str] = []
    monkeypatch.setattr(durable, "sync_folder", lambda path: happened.append(f"sync {path}"))
    monkeypatch.setattr(journal, "remove", lambda path: happened.append("remove"))

    await copied.copy()

    assert happened.index(f"sync {copied.folder}") < happened.index("remove")


async def test_one_that_was_killed_between_two_names_is_finished(copied: Files) -> None:
    await copied.interrupt()
    await finish_by_hand(copied)
    os.link(copied.partial, copied.target)

    await copied.copy()

    assert copied.names() == ["source", "target"]
    assert copied.target.read_bytes() == copied.source.read_bytes()


async def finish_by_hand(copied: Files) -> None:
    """Bring the target and the journal to where all is stored."""
    digests = copied.folder / "digests"
    with await ntxengine.digest(copied.source, manifest=digests):
        pass
    found = journal.read(copied.journal)
    assert found is not None
    digests.replace(copied.manifest)
    with open(copied.partial, "r+b") as file:
        file.write(copied.source.read_bytes())
    journal.write(copied.journal, Journal(found.identity, SIZE, SIZE))


# --------------------------------------------------------------------------------------------------- by command


def test_extents_and_a_manifest_go_on(copied: Files, tmp_path: Path) -> None:
    extents, manifest = tmp_path / "extents.json", tmp_path / "digests"
    extents.write_text(
        '[{"offset":0,"length":2097152,"type":"data"},{"offset":3145728,"length":524288,"type":"zero"},'
        f'{{"offset":3801088,"length":{SIZE - 3801088},"type":"data"}}]'
    )
    copied.target.write_bytes(bytes([7]) * SIZE)
    command = ("copy", copied.source, copied.target, "--overwrite", "--extents", extents, "--manifest", manifest)
    journaled_command = (*command, "--journal", copied.journal)
    process = start(*journaled_command, "--bandwidth", "2M", "--request-size", "64K", "--connections", "1")
    while stored_to(copied.journal) == 0:
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()

    ran = ntx(*journaled_command, "--json")

    assert ran.code == 0, ran.err
    assert ran.json["resumed_from"] > 0
    source, target = copied.source.read_bytes(), copied.target.read_bytes()
    assert target[:2097152] == source[:2097152]
    assert target[2097152:3145728] == bytes([7]) * MIB
    assert target[3145728 : 3145728 + 524288] == bytes(524288)
    assert target[3801088:] == source[3801088:]
    with ntxengine.Manifest.open(manifest) as found:
        assert found.disk_digest == ran.json["digest"]
    assert copied.names() == ["digests", "extents.json", "source", "target"]


def test_it_says_how_far_it_was(copied: Files) -> None:
    command = ("copy", copied.source, copied.target, "--journal", copied.journal)
    process = start(*command, "--bandwidth", "2M", "--request-size", "64K", "--connections", "1")
    while stored_to(copied.journal) == 0:
        assert process.poll() is None, process.communicate()
    process.terminate()
    _, err = process.communicate()
    assert "are stored: the same command goes on there" in err.decode()
    assert process.returncode == 143

    ran = ntx(*command, "--progress", "plain")

    assert ran.code == 0, ran.err
    assert "going on: " in ran.err
    assert " are stored, " in ran.err
    assert "gone on with" in ran.out
    assert "copied once more" in ran.out


def test_a_journal_without_space_is_one_clear_line(small_fs: Callable[[str], Path], copied: Files) -> None:
    folder = small_fs("512k")
    command = ("copy", copied.source, copied.target, "--journal", folder / "journal", "--progress", "none")
    process = start(*command, "--bandwidth", "2M", "--request-size", "64K", "--connections", "1")
    while stored_to(folder / "journal") == 0:
        assert process.poll() is None, process.communicate()
    filler = fill(folder)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1, err.decode()
    (line,) = err.decode().splitlines()
    assert "No space left on device" in line
    assert f"{folder}/" in line
    assert "the same command goes on there" in line
    assert copied.names() == [folder.name, "source", "target.ntx-partial"]

    filler.unlink()
    ran = ntx(*command, "--json")

    assert ran.code == 0, ran.err
    assert ran.json["resumed_from"] > 0
    assert copied.target.read_bytes() == copied.source.read_bytes()
    assert [path.name for path in folder.iterdir()] == []


def fill(folder: Path) -> Path:
    """Leave no room in a file system."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_half_the_space_is_one_clear_line(small_fs: Callable[[str], Path], tmp_path: Path) -> None:
    folder = small_fs("4m")
    source = make_disk(tmp_path / "source", 8 * MIB)
    target = folder / "target"
    command = ("copy", source, target, "--journal", tmp_path / "journal")
    process = start(*command, "--bandwidth", "2M", "--request-size", "64K", "--connections", "1", "--progress", "none")
    _, err = process.communicate(timeout=60)
    lines = err.decode().splitlines()

    assert process.returncode == 1
    assert len(lines) == 1, lines
    assert f"{target}: " in lines[0]
    assert "No space left on device" in lines[0]
    assert "the same command goes on there" in lines[0]
    assert [path.name for path in folder.iterdir()] == ["target.ntx-partial"]

    subprocess.run(["mount", "-o", "remount,size=16m", folder], check=True)
    ran = ntx(*command, "--json", "--verify")

    assert ran.code == 0, ran.err
    assert ran.json["resumed_from"] > 0
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in folder.iterdir()] == ["target"]
