"""What Python parses, on valid bytes that were damaged: refused by its own error, or what it was before.

`make fuzz` tries more examples than the tests.  point.json has such a test beside its other ones
(tests/repository/test_point_json.py).
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ntxengine.dataplane import journal
from ntxengine.dataplane.extents import ZERO
from ntxengine.dataplane.journal import Journal
from ntxengine.dataplane.manifest import HEADER_SIZE, Manifest
from ntxengine.errors import NtxError, PrismAnswerError, RepositoryError
from ntxengine.prism.regions import MAX_REGIONS, ReadPage, page_v3, page_v4
from ntxengine.repository import Hold, Retention, hold_text, retention_file
from ntxengine.repository.stored import encode_checked
from ntxengine.units import format_time

MOST_OFFSET = 1 << 63

Edit = tuple[str, float, bytes]

PIECES = [b"-1", b"1e9", b"null", b"{}", b'"', b"[" * 2000]

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "replace", "insert", "delete", "cut", "repeat"]),
        st.floats(0, 1),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(PIECES)),
    ),
    min_size=1,
    max_size=4,
)


def damage(data: bytes, changes: list[Edit]) -> bytes:
    """Apply edits, each at a place that is a part of the length."""
    for how, place, piece in changes:
        at = min(int(place * len(data)), max(len(data) - 1, 0))
        after = data[at:]
        match how:
            case "flip":
                after = bytes([after[0] ^ piece[0]]) + after[1:] if after else b""
            case "replace":
                after = piece + after[len(piece) :]
            case "insert":
                after = piece + after
            case "delete":
                after = after[len(piece) :]
            case "cut":
                after = b""
            case "repeat":
                after = after[:64] + after
        data = data[:at] + after
    return data


def check_line(refused: NtxError, subject: str) -> None:
    """An error is one line that begins with what it is about."""
    assert str(refused).startswith(subject)
    assert "\n" not in str(refused)


def check_shown(refused: NtxError, subject: str) -> None:
    """The same, and all of it can be shown as it is."""
    check_line(refused, subject)
    assert str(refused).isprintable()


fuzzed = settings(
    max_examples=int(os.environ.get("NTX_FUZZ_EXAMPLES", "200")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

REGIONS = [
    {"offset": 0, "length": 65536, "type": "REGULAR", "regionType": "REGULAR"},
    {"offset": 1 << 40, "length": 32768, "type": "ZEROED", "regionType": "ZEROED"},
    {"offset": 1 << 41, "length": 512},
]
EXTRA = [{"name": "fileSize", "value": str(1 << 42)}, {"name": "nextOffset", "value": 1 << 41}]
PAGES: list[tuple[ReadPage, dict[str, Any]]] = [
    (page_v3, {"region_list": REGIONS, "file_size": 1 << 42, "next_offset": 1 << 41}),
    (page_v4, {"data": REGIONS, "metadata": {"extraInfo": EXTRA, "flags": [{"name": "hasError", "value": False}]}}),
]


@pytest.mark.parametrize(("read", "page"), PAGES, ids=["v3", "v4"])
@fuzzed
@given(changes=edits)
def test_a_page_of_regions_is_refused_by_name_or_can_be_true(
    read: ReadPage, page: dict[str, Any], changes: list[Edit]
) -> None:
    try:
        found = read(damage(json.dumps(page).encode(), changes), start=512, request="POST /regions")
    except PrismAnswerError as refused:
        check_line(refused, "POST /regions")
        return
    assert len(found.regions) <= MAX_REGIONS
    for offset, length, flags in found.regions.tolist():
        assert length > 0
        assert offset + length <= MOST_OFFSET
        assert flags in (0, ZERO)
    assert found.disk_size is None or 0 <= found.disk_size <= MOST_OFFSET
    assert found.next_offset is None or 512 < found.next_offset <= MOST_OFFSET


SIZE = 5 * 65536 + 1
KEPT = Journal({"source": "/dev/sdb", "disk": "ünïcode \n"}, SIZE, 65536, "0" * 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a whole manifest, one that was never finished, and a journal."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("sealed", "unfinished"):
        with Manifest.create(folder / name, size=SIZE) as manifest:
            os.pwrite(manifest.fd, bytes(range(48)), HEADER_SIZE)
            if name == "sealed":
                manifest.seal()
    journal.write(folder / "journal", KEPT)
    return folder


@pytest.mark.parametrize("name", ["sealed", "unfinished"])
@fuzzed
@given(changes=edits)
def test_a_manifest_is_refused_by_name_or_says_what_it_said(folder: Path, name: str, changes: list[Edit]) -> None:
    path = folder / f"damaged-{name}"
    whole = (folder / name).read_bytes()
    path.write_bytes(damage(whole, changes))

    try:
        opened = Manifest.open(path) if name == "sealed" else Manifest.reopen(path, size=SIZE)
    except RepositoryError as refused:
        check_line(refused, f"{path}: ")
        return
    with opened as manifest:
        assert manifest.size == SIZE
        if name == "sealed":  # of one that was never finished, the journal knows a digest over the digests
            assert manifest.digests(0, manifest.blocks).tobytes() == whole[HEADER_SIZE:]


@fuzzed
@given(changes=edits)
def test_a_journal_is_refused_by_name_or_says_what_it_said(folder: Path, changes: list[Edit]) -> None:
    path = folder / "damaged-journal"
    path.write_bytes(damage((folder / "journal").read_bytes(), changes))

    try:
        found = journal.read(path)
    except RepositoryError as refused:
        check_line(refused, f"{path}: ")
        return
    assert found == KEPT


LINES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(st.text(max_size=9), each, max_size=3)),
    max_leaves=6,
)


@fuzzed
@given(
    document=st.fixed_dictionaries(
        {"format": st.just("ntxengine journal"), "version": st.just(1)},
        optional={"identity": LINES, "size": LINES, "stored_to": LINES, "digests": LINES},
    )
)
def test_a_journal_that_fits_its_checksum_is_refused_or_can_be_true(folder: Path, document: dict[str, Any]) -> None:
    path = folder / "made-up-journal"
    line = json.dumps(document).encode()
    path.write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n")

    try:
        found = journal.read(path)
    except RepositoryError as refused:
        check_line(refused, f"{path}: ")
        return
    assert found is not None
    assert 0 <= found.stored_to <= found.size
    assert all(isinstance(value, str) for value in (*found.identity, *found.identity.values(), found.digests))


POINT = "20261123T041500Z-8f3a2c"
SAID = Retention().tag(POINT, ["release"]).hold(POINT, Hold(datetime(2127, 3, 1, tzinfo=UTC), "audit"))


@fuzzed
@given(changes=edits)
def test_what_is_said_of_points_is_refused_by_name_or_is_what_was_said(tmp_path: Path, changes: list[Edit]) -> None:
    path = tmp_path / "retention.json"
    path.unlink(missing_ok=True)
    retention_file.change(tmp_path, lambda _: SAID)
    path.write_bytes(damage(path.read_bytes(), changes))

    try:
        said = retention_file.read(tmp_path)
    except RepositoryError as refused:
        check_shown(refused, f"{path}: ")
        return
    assert said == SAID


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
times = st.sampled_from(
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2127-03-01T00:00:00Z", "2127-03-01", None, 5]
)
entries = st.fixed_dictionaries(
    {"point_id": st.sampled_from([POINT, "../../etc", POINT + "\n", ""]) | anything},
    optional={
        "tags": st.lists(st.sampled_from(["a", "a b", "\x1b[31m", "-"]) | anything, max_size=3) | anything,
        "hold": st.fixed_dictionaries({}, optional={"until": times, "reason": anything}) | anything,
        "forgotten_at": times | anything,
        "new": anything,
    },
)


@fuzzed
@given(points=st.lists(entries, max_size=3) | anything)
def test_anything_that_is_said_of_points_with_a_right_checksum_is_refused_or_can_be_told(
    tmp_path: Path, points: Any
) -> None:
    document = {"format": "ntxengine-retention", "version": 1, "points": points}
    path = tmp_path / "retention.json"
    path.write_bytes(encode_checked(document))

    try:
        said = retention_file.read(tmp_path)
    except RepositoryError as refused:
        check_shown(refused, f"{path}: ")
        return
    for point_id, found in said.points.items():
        assert point_id == POINT
        assert found.hold is None or hold_text(found.hold).isprintable()
        assert " ".join(found.tags).isprintable()
        assert found.forgotten_at is None or format_time(found.forgotten_at)
