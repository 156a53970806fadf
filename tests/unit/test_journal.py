"""The journal of a copy: what is read is what was written, and anything else is refused in one clear line."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

from ntxengine.dataplane import journal
from ntxengine.dataplane.journal import Journal
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import NtxError, OptionsError, RepositoryError

KEPT = Journal({"source": "/dev/sdb", "disk": "ünïcode \n"}, 1 << 40, 65536)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "copy.journal"


def test_what_was_written_is_read(path: Path) -> None:
    assert journal.read(path) is None

    journal.write(path, Journal({}, 1, 0))
    journal.write(path, KEPT)

    assert journal.read(path) == KEPT
    assert [each.name for each in path.parent.iterdir()] == ["copy.journal"]


def test_what_a_killed_writer_left_is_in_the_way_of_nobody(path: Path) -> None:
    (path.parent / ".copy.journal.new").write_bytes(b"half")

    journal.write(path, KEPT)
    assert journal.read(path) == KEPT

    (path.parent / ".copy.journal.new").write_bytes(b"half")
    journal.remove(path)
    journal.remove(path)
    assert list(path.parent.iterdir()) == []


def test_it_is_small_whatever_the_disk(path: Path) -> None:
    journal.write(path, Journal({"source": "x" * 255}, 2**62, 2**62))

    assert path.stat().st_size < 1024


def test_the_longest_names_are_read_again(path: Path) -> None:
    long = "\udcff" * 4096
    kept = Journal({"source": long, "target": long, "manifest": long}, 1, 1)

    journal.write(path, kept)

    assert journal.read(path) == kept


def test_any_damage_is_one_clear_line(path: Path) -> None:
    journal.write(path, KEPT)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        check_refused(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        check_refused(path)
    path.write_bytes(whole + b"\n")
    check_refused(path)
    path.write_bytes(b"x" * (journal.MAX_SIZE + 1))
    check_refused(path)


def check_refused(path: Path) -> None:
    with pytest.raises(RepositoryError) as raised:
        journal.read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {"format": "something"},
        {"format": "ntxengine journal", "version": 2},
        {"format": "ntxengine journal", "version": 1, "identity": [], "size": 1, "stored_to": 0},
        {"format": "ntxengine journal", "version": 1, "identity": {"a": 1}, "size": 1, "stored_to": 0},
        {"format": "ntxengine journal", "version": 1, "identity": {}, "size": 1, "stored_to": 2},
        {"format": "ntxengine journal", "version": 1, "identity": {}, "size": 1, "stored_to": -1},
        {"format": "ntxengine journal", "version": 1, "identity": {}, "size": 1.5, "stored_to": 0},
        {"format": "ntxengine journal", "version": 1, "identity": {}, "size": True, "stored_to": False},
        {"format": "ntxengine journal", "version": 1, "identity": {}},
    ],
)
def test_what_fits_its_checksum_is_not_believed_for_that(path: Path, document: object) -> None:
    line = json.dumps(document).encode()
    path.write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n")

    check_refused(path)


def test_what_is_nested_without_end_is_refused(path: Path) -> None:
    line = b"[" * 60_000
    path.write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n")

    check_refused(path)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    journal.write(tmp_path / "other", KEPT)
    path.symlink_to(tmp_path / "other")

    with pytest.raises(NtxError, match=r"copy\.journal"):
        journal.read(path)


@pytest.mark.parametrize(
    ("identity", "size", "named"),
    [
        ({"source": "/dev/sdc", "disk": "ünïcode \n"}, 1 << 40, "whose source was /dev/sdb, and it is /dev/sdc now"),
        ({"disk": "ünïcode \n"}, 1 << 40, "whose source was /dev/sdb, and it is not told now"),
        ({"source": "/dev/sdb", "disk": "ünïcode \n", "more": "x"}, 1 << 40, "whose more was not told"),
        (KEPT.identity, 1, "whose size was 1099511627776, and it is 1 now"),
    ],
)
def test_something_else_is_not_gone_on_with(path: Path, identity: dict[str, str], size: int, named: str) -> None:
    with pytest.raises(OptionsError, match=r"remove the journal to begin again") as raised:
        KEPT.check_same(identity, size, path=path)
    assert named in str(raised.value)


def test_the_same_is_gone_on_with(path: Path) -> None:
    KEPT.check_same(dict(KEPT.identity), KEPT.size, path=path)


def test_a_manifest_that_was_never_finished_is_gone_on_with(tmp_path: Path) -> None:
    with Manifest.create(tmp_path / "m", size=1 << 20):
        pass
    with Manifest.reopen(tmp_path / "m", size=1 << 20) as manifest:
        assert not manifest.is_fresh
        manifest.seal()

    with pytest.raises(RepositoryError, match="already finished"):
        Manifest.reopen(tmp_path / "m", size=1 << 20)
    with Manifest.open(tmp_path / "m") as manifest:
        assert manifest.size == 1 << 20


def test_a_manifest_of_another_disk_is_not_gone_on_with(tmp_path: Path) -> None:
    with Manifest.create(tmp_path / "m", size=1 << 20):
        pass

    with pytest.raises(RepositoryError, match="of a disk of 1048576 bytes, not 1048577"):
        Manifest.reopen(tmp_path / "m", size=(1 << 20) + 1)
    with pytest.raises(RepositoryError, match="cannot be opened"):
        Manifest.reopen(tmp_path / "missing", size=1)
    data = (tmp_path / "m").read_bytes()
    for damaged in (b"", data[:50], data[:-1], data[:20] + b"\xff" + data[21:]):
        (tmp_path / "m").write_bytes(damaged)
        with pytest.raises(RepositoryError, match=r"/m: "):
            Manifest.reopen(tmp_path / "m", size=1 << 20)


def test_a_digest_of_digests_tells_one_that_was_changed(tmp_path: Path) -> None:
    with Manifest.create(tmp_path / "m", size=(1 << 20) + 1) as manifest:
        os.pwrite(manifest.fd, os.urandom(17 * 16), manifest.digest_offset)
        going = journal.DigestsBelow(manifest)
        steps = [going.at(at) for at in (65536, 65536, 1 << 20, (1 << 20) + 1)]

        assert journal.DigestsBelow(manifest).at((1 << 20) + 1) == steps[3]
        assert steps[0] == steps[1] != steps[2] != steps[3]
        os.pwrite(manifest.fd, b"damaged", manifest.digest_offset + 15 * 16)
        assert journal.DigestsBelow(manifest).at(65536) == steps[0]
        assert journal.DigestsBelow(manifest).at(1 << 20) != steps[2]


def test_digests_behind_a_place_are_forgotten(tmp_path: Path) -> None:
    with Manifest.create(tmp_path / "m", size=(1 << 20) + 1) as manifest:
        os.pwrite(manifest.fd, b"x" * (17 * 16), manifest.digest_offset)
        assert manifest.bytes_data(15 * 65536) == 2 * 65536

        manifest.forget(15 * 65536)

        assert manifest.bytes_data(15 * 65536) == 0
        assert manifest.bytes_data() == 15 * 65536
        assert manifest.digests(0, 99)[14].any()
        manifest.seal()
    with Manifest.open(tmp_path / "m") as manifest:
        assert manifest.blocks == 17


def test_one_that_was_killed_while_it_forgot_is_reopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def then_die(function: Callable[..., object]) -> Callable[..., object]:
        def dying(*arguments: object) -> object:
            function(*arguments)
            raise Killed

        return dying

    with Manifest.create(tmp_path / "m", size=1 << 20) as manifest:
        os.pwrite(manifest.fd, b"x" * (16 * 16), manifest.digest_offset)
        for name in ("ftruncate", "pwrite"):
            monkeypatch.setattr(os, name, then_die(getattr(os, name)))
        with pytest.raises(Killed):
            manifest.forget(15 * 65536)
        monkeypatch.undo()

    with Manifest.reopen(tmp_path / "m", size=1 << 20) as manifest:
        assert manifest.bytes_data() == 15 * 65536


def test_one_that_was_finished_is_gone_on_with_where_that_is_wanted(tmp_path: Path) -> None:
    with Manifest.create(tmp_path / "m", size=1 << 20) as manifest:
        manifest.seal()
    with Manifest.reopen(tmp_path / "m", size=1 << 20, unseal=True):
        pass

    with pytest.raises(RepositoryError, match="never finished"):
        Manifest.open(tmp_path / "m")
