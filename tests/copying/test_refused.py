"""A copy with a journal does not go on with anything else than it was: one clear line says what differs."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ntxengine
from ntxengine.copying import identity
from ntxengine.dataplane import journal
from ntxengine.dataplane.journal import Journal
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import TargetError
from tests.cli.ntx import assert_refused, ntx
from tests.copying.interrupting import MIB, SIZE, SLOW, Files, interrupted, make_disk, stored_to

pytestmark = pytest.mark.usefixtures("often")


def cut_manifest(copied: Files) -> None:
    os.truncate(copied.manifest, copied.manifest.stat().st_size // 2)


def empty_journal(copied: Files) -> None:
    os.truncate(copied.journal, 0)


def flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def move_copy(path: Path) -> None:
    """Put a copy in the place of a file."""
    shutil.copy2(path, path.with_name("other"))
    path.unlink()
    path.with_name("other").rename(path)


def named_to_remove(line: str) -> list[Path]:
    """Return the files that a line says to remove: "it" is the one that the line begins with."""
    found = re.search(r": remove (it|.*?)(?: to begin again|, or name another)", line)
    assert found is not None, line
    names = line.split(": ")[0] if found[1] == "it" else found[1]
    return [Path(name) for name in names.split(", ")]


REFUSED: dict[str, tuple[Callable[[Files], object], str]] = {
    "journal empty": (empty_journal, r"/journal: the journal is damaged .*: remove it to begin again"),
    "journal flipped": (lambda c: flip(c.journal, 20), r"/journal: the journal is damaged"),
    "manifest gone": (
        lambda c: c.manifest.unlink(),
        r"/journal.manifest: .*: remove \S*/journal, \S*/target.ntx-partial ",
    ),
    "manifest cut": (cut_manifest, r"/journal.manifest: .* it was cut: remove \S*/journal, \S*/journal.manifest, "),
    "manifest header flipped": (lambda c: flip(c.manifest, 16), r"/journal.manifest: .*header is damaged"),
    "manifest digest flipped": (lambda c: flip(c.manifest, 4097), r"/journal.manifest: the manifest is damaged"),
    "partial gone": (lambda c: c.partial.unlink(), r"/target.ntx-partial: is missing, .* remove \S*/journal"),
    "partial replaced": (lambda c: move_copy(c.partial), r"/target.ntx-partial: was replaced"),
    "partial cut": (lambda c: os.truncate(c.partial, SIZE // 2), r"/journal: .*size of the target was"),
    "partial grown": (lambda c: os.truncate(c.partial, SIZE * 2), r"/journal: .*size of the target was"),
    "target made": (lambda c: c.target.write_bytes(b""), r"/target: was made by somebody else meanwhile"),
    "source touched": (lambda c: os.utime(c.source), r"/journal: .*mtime of the source was"),
    "source replaced": (lambda c: move_copy(c.source), r"/journal: .*inode of the source was"),
    "source grown": (lambda c: os.truncate(c.source, SIZE * 2), r"/journal: .*(mtime of the source|size) was"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_something_else_is_refused(what: str, copied: Files) -> None:
    change, expected = REFUSED[what]
    await copied.interrupt()
    partial = copied.partial.read_bytes()
    change(copied)

    with pytest.raises(ntxengine.NtxError, match=expected) as raised:
        await copied.copy()

    assert "\n" not in str(raised.value)
    assert what.startswith("target made") or not copied.target.exists()
    if what.startswith(("manifest", "source", "journal")):
        assert copied.partial.read_bytes() == partial
    for path in named_to_remove(str(raised.value)):
        path.unlink()
    await copied.copy()
    assert copied.names() in (["source", "target"], ["other", "source", "target"])


async def test_a_device_that_is_not_there_is_not_replaced_by_a_file(copied: Files) -> None:
    """After a reboot a disk may come up under another name, and what is called as it was is nothing."""
    copied.target.write_bytes(bytes(SIZE))
    await interrupted(copied.source, copied.target, copied.journal, overwrite=True)
    found = journal.read(copied.journal)
    assert found is not None
    was = {**found.identity, identity.KIND_OF_TARGET: "block device"}
    del was[identity.INODE_OF_TARGET]
    journal.write(copied.journal, Journal(was, found.size, found.stored_to, found.digests))
    copied.target.unlink()

    with pytest.raises(ntxengine.OptionsError, match="kind of the target was block device, and it is new file now"):
        await copied.copy()


async def test_one_that_cannot_go_on_leaves_nothing_open(copied: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TargetError("no room")

    await copied.interrupt()
    monkeypatch.setattr(Manifest, "forget", fail)
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(TargetError, match="no room"):
        await copied.copy()

    assert len(os.listdir("/proc/self/fd")) == before
    assert copied.names() == ["journal", "journal.manifest", "source", "target.ntx-partial"]


async def test_a_journal_whose_folder_is_gone_is_not_tried_again(copied: Files) -> None:
    folder = copied.folder / "kept"
    folder.mkdir()
    task = asyncio.create_task(
        ntxengine.copy(copied.source, "null:", journal=folder / "journal", options=SLOW, retry_for_s=60)
    )
    while stored_to(folder / "journal") == 0:
        await asyncio.sleep(0.01)
    shutil.rmtree(folder)

    async with asyncio.timeout(60):
        with pytest.raises(TargetError, match=r"journal\S*: writing failed: No such file or directory") as raised:
            await task

    assert "goes on there" not in str(raised.value)


@pytest.mark.parametrize(
    "spoil", [lambda c: os.truncate(c.source, MIB), lambda c: c.partial.unlink()], ids=["source cut", "target gone"]
)
async def test_what_will_be_refused_is_not_promised(copied: Files, spoil: Callable[[Files], object]) -> None:
    copying = asyncio.create_task(
        ntxengine.copy(copied.source, copied.target, journal=copied.journal, options=SLOW, retry_for_s=0)
    )
    while stored_to(copied.journal) == 0:
        await asyncio.sleep(0.01)
    spoil(copied)

    with pytest.raises(ntxengine.NtxError) as raised:
        await copying

    assert "goes on there" not in str(raised.value)


async def test_what_cannot_be_removed_is_said(copied: Files) -> None:
    await copied.interrupt()
    found = journal.read(copied.journal)
    assert found is not None
    journal.write(copied.journal, Journal(found.identity, found.size, 0))
    copied.manifest.unlink()
    copied.manifest.mkdir()

    with pytest.raises(TargetError, match=r"journal\.manifest: removing failed: Is a directory"):
        await copied.copy()


async def test_without_its_journal_a_copy_begins_again(copied: Files) -> None:
    await copied.interrupt()
    copied.journal.unlink()

    report = await copied.copy()

    assert report.resumed_from == 0
    assert copied.names() == ["source", "target"]


async def test_what_another_journal_goes_on_with_is_left_alone(copied: Files) -> None:
    await copied.interrupt()
    partial = copied.partial.read_bytes()

    with pytest.raises(ntxengine.OptionsError, match=r"target\.ntx-partial: exists already"):
        await ntxengine.copy(copied.source, copied.target, journal=copied.folder / "another")

    assert copied.names() == ["journal", "journal.manifest", "source", "target.ntx-partial"]
    assert copied.partial.read_bytes() == partial
    assert ntx("sweep", copied.folder, "-q").code == 0
    assert copied.partial.read_bytes() == partial


async def test_other_arguments_are_refused(copied: Files) -> None:
    await copied.interrupt()
    other = make_disk(copied.folder / "other")

    for arguments, word in (
        ((other, copied.target), "of the source was"),
        ((copied.source, copied.folder / "elsewhere"), "whose target was"),
        ((copied.source, copied.target, "--manifest", copied.folder / "m"), "whose manifest was"),
        ((copied.source, copied.target, "--target-format", "qcow2"), "whose format of the target was"),
    ):
        assert_refused(
            ntx("copy", *arguments, "--journal", copied.journal), 2, word, "to begin again, or name another journal"
        )

    assert_refused(ntx("copy", copied.source, copied.target, "--journal", copied.source), 2, "--journal", "one file")
    assert (await copied.copy()).resumed_from > 0


async def test_two_runs_do_not_meet(copied: Files) -> None:
    bandwidth = ntxengine.Bandwidth("512K")
    options = dataclasses.replace(SLOW, bandwidth=bandwidth)
    first = asyncio.create_task(
        ntxengine.copy(copied.source, copied.target, journal=copied.journal, options=options, retry_for_s=0)
    )
    while stored_to(copied.journal) == 0:
        await asyncio.sleep(0.01)

    with pytest.raises(ntxengine.LockedError, match="another process works with it"):
        await copied.copy()
    bandwidth.change("off")
    await first

    assert copied.names() == ["source", "target"]
    assert copied.target.read_bytes() == copied.source.read_bytes()
