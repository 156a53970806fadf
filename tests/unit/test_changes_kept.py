"""What is to be read of a disk, kept: read as it was written, and refused in one clear line as anything else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash

from ntxengine.changes import keep_changes, kept, read_kept
from ntxengine.changes.kept import KeptChanges
from ntxengine.changes.policy import Changes
from ntxengine.changes.spool import spool_to_file
from ntxengine.dataplane.extents import EXTENT, ZERO, Extents
from ntxengine.errors import NtxError, RepositoryError, TargetError

BLOCK = 65536
SIZE = 64 * BLOCK


def extents(*regions: tuple[int, int, int]) -> Extents:
    return np.array(list(regions), dtype=EXTENT)


SOME = extents((0, BLOCK, 0), (4 * BLOCK, BLOCK, ZERO), (8 * BLOCK, 2 * BLOCK, 0))


async def changes(folder: Path, windows: list[Extents]) -> Changes:
    found = await spool_to_file(windows, folder)
    return Changes("digest-scan", "asked ünïcode\n", True, True, SIZE, found)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Changes that were kept."""
    written = await changes(tmp_path, [SOME])
    await keep_changes(written, tmp_path / "kept", note='{"an":"audit"}')
    written.extents.close()
    return tmp_path / "kept"


async def read(path: Path) -> KeptChanges:
    found = await read_kept(path, path.parent)
    assert found is not None
    found.changes.extents.close()
    return found


async def refusal(path: Path) -> str:
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RepositoryError) as refused:
        await read_kept(path, path.parent)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert os.listdir(path.parent) == [path.name]
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


async def test_nothing_was_kept(tmp_path: Path) -> None:
    assert await read_kept(tmp_path / "kept", tmp_path) is None


async def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = await changes(tmp_path, [SOME])

    digest = await keep_changes(written, tmp_path / "kept", note="{}")
    found = await read_kept(tmp_path / "kept", tmp_path)

    assert found is not None
    read_back = found.changes
    assert (found.digest, found.note) == (digest, "{}")
    assert np.array_equal(np.concatenate(list(read_back.extents.windows())), SOME)
    for name in ("tracking", "reason", "is_incremental", "must_compare", "size", "bytes_data", "bytes_zero"):
        assert getattr(read_back, name) == getattr(written, name)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["kept"]
    written.extents.close()
    read_back.extents.close()


async def test_no_extents_are_kept_as_such(tmp_path: Path) -> None:
    written = await changes(tmp_path, [])
    await keep_changes(written, tmp_path / "kept")
    written.extents.close()

    assert (await read(tmp_path / "kept")).changes.extents.count == 0


async def test_many_extents_come_in_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_AT_ONCE", 2)
    written = await changes(tmp_path, [SOME])
    await keep_changes(written, tmp_path / "kept")
    written.extents.close()

    assert (await read(tmp_path / "kept")).changes.extents.count == 3


async def test_other_changes_have_another_digest(tmp_path: Path) -> None:
    digests = set()
    for number, windows in enumerate(([SOME], [SOME[:2]], [])):
        written = await changes(tmp_path, windows)
        digests.add(await keep_changes(written, tmp_path / f"kept{number}"))
        written.extents.close()

    assert len(digests) == 3


async def test_what_is_there_is_not_written_over(path: Path) -> None:
    written = await changes(path.parent, [SOME])
    with pytest.raises(TargetError, match="File exists"):
        await keep_changes(written, path)
    written.extents.close()


async def test_any_damage_is_one_clear_line(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(0, len(whole), 11):
        path.write_bytes(whole[:size])
        assert "is damaged" in await refusal(path)
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        assert "is damaged" in await refusal(path)
    path.write_bytes(whole + b"\0")
    assert "its length does not fit" in await refusal(path)
    path.write_bytes(whole)
    assert (await read(path)).note == '{"an":"audit"}'


async def test_a_link_is_not_followed(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")

    assert "cannot be read" in await refusal(path)


def write_plain(path: Path, windows: Extents, **head: Any) -> None:
    """Write a file with right checksums, whatever it says."""
    data = windows.tobytes()
    document = {
        "format": "ntxengine changes",
        "version": 1,
        "tracking": "full",
        "reason": "",
        "is_incremental": False,
        "must_compare": False,
        "size": SIZE,
        "count": len(windows),
        "digest": xxhash.xxh3_128_hexdigest(data),
        "note": "",
        **head,
    }
    line = msgspec.json.encode(document)
    path.write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n" + data)


_UNTRUE = "out of order, or not of its disk"


@pytest.mark.parametrize(
    ("windows", "head", "why"),
    [
        (extents((0, BLOCK, 0)), {"format": "something"}, "something else"),
        (extents((0, BLOCK, 0)), {"version": 2}, "another version"),
        (extents((0, BLOCK, 0)), {"count": -1}, "length does not fit"),
        (extents((0, BLOCK, 0)), {"count": 2**62}, "length does not fit"),
        (extents((0, BLOCK, 0)), {"size": -1}, "length does not fit"),
        (extents((0, BLOCK, 0)), {"size": "all"}, "size"),
        (extents((0, BLOCK, 0)), {"tracking": "magic"}, "tracking"),
        (extents((0, BLOCK, 0)), {"digest": "00"}, "not those that were written"),
        (extents((0, SIZE + 1, 0)), {}, _UNTRUE),
        (extents((2**64 - 1, 1, 0)), {}, _UNTRUE),
        (extents((2**63, 2**63, 0)), {}, _UNTRUE),
        (extents((BLOCK, BLOCK, 0), (0, BLOCK, 0)), {}, _UNTRUE),
        (extents((0, 2 * BLOCK, 0), (BLOCK, BLOCK, 0)), {}, _UNTRUE),
        (extents((2**63, 2**63, 0), (0, BLOCK, 0)), {}, _UNTRUE),
        (extents((0, 0, 0)), {}, _UNTRUE),
        (extents((0, BLOCK, 64)), {}, _UNTRUE),
    ],
)
async def test_a_file_that_cannot_be_true_is_refused(
    windows: Extents, head: dict[str, Any], why: str, tmp_path: Path
) -> None:
    write_plain(tmp_path / "kept", windows, **head)

    assert why in await refusal(tmp_path / "kept")


async def test_windows_are_in_order_among_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_AT_ONCE", 1)
    write_plain(tmp_path / "kept", extents((BLOCK, BLOCK, 0), (0, BLOCK, 0)))

    assert _UNTRUE in await refusal(tmp_path / "kept")


async def test_an_error_of_the_folder_is_one_of_ours(path: Path) -> None:
    with pytest.raises(NtxError):
        await read_kept(path, path.parent / "missing")
