"""Extents: arrays that are ascending and do not overlap, whatever comes in."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntxengine.dataplane.extents import EXTENT, ZERO, ExtentFile, make, normalise, total, whole
from ntxengine.dataplane.extents_json import read_json, write_json
from ntxengine.errors import OptionsError

SIZE = 400
ROWS = st.lists(
    st.integers(0, SIZE - 1).flatmap(
        lambda offset: st.tuples(st.just(offset), st.integers(1, SIZE - offset), st.sampled_from([0, ZERO]))
    ),
    max_size=12,
)


def paint(rows: list[tuple[int, int, int]]) -> np.ndarray:
    """Every byte's kind: 0 untouched, 1 zero, 2 data; data wins."""
    kinds = np.zeros(SIZE, dtype=np.uint8)
    for offset, length, flags in rows:
        part = kinds[offset : offset + length]
        np.maximum(part, 1 if flags else 2, out=part)
    return kinds


@given(ROWS)
def test_normalised_extents_cover_the_same_bytes(rows: list[tuple[int, int, int]]) -> None:
    result = normalise(make(rows), size=SIZE, name="test")

    assert (paint(result.tolist()) == paint(rows)).all()


@given(ROWS)
def test_normalised_extents_ascend_and_neither_overlap_nor_touch_alike(rows: list[tuple[int, int, int]]) -> None:
    result = normalise(make(rows), size=SIZE, name="test").tolist()

    for (offset, length, flags), (next_offset, _, next_flags) in itertools.pairwise(result):
        assert offset + length <= next_offset
        assert offset + length < next_offset or flags != next_flags


@pytest.mark.parametrize("row", [(SIZE, 1, 0), (0, SIZE + 1, 0), (2**64 - 1, 1, 0), (1, 2**64 - 1, 0), (5, 0, 0)])
def test_extent_past_the_end_or_empty_is_refused_by_name(row: tuple[int, int, int]) -> None:
    with pytest.raises(OptionsError, match=r"scsi\.0: extent at offset"):
        normalise(make([row]), size=SIZE, name="scsi.0")


def test_whole_disk_is_one_extent_and_an_empty_disk_none() -> None:
    assert whole(7).tolist() == [(0, 7, 0)]
    assert len(whole(0)) == 0


def test_extent_file_gives_back_what_was_appended_in_windows() -> None:
    with ExtentFile() as file:
        for start in range(0, 1000, 100):
            file.append(make([(start + i * 10, 5, ZERO if i % 2 else 0) for i in range(10)]))

        windows = list(file.windows(7))

    assert max(len(window) for window in windows) == 7
    rows = np.concatenate(windows)
    assert rows["offset"].tolist() == list(range(0, 1000, 10))
    assert (file.count, file.bytes_data, file.bytes_zero) == (100, 250, 250)


def test_extent_file_refuses_to_go_back() -> None:
    with ExtentFile() as file:
        file.append(make([(100, 10, 0)]))

        with pytest.raises(ValueError, match="go back"):
            file.append(make([(109, 10, 0)]))


def test_json_written_is_json_read(tmp_path: Path) -> None:
    extents = make([(0, 512, 0), (1024, 512, ZERO)])
    text = io.StringIO()
    write_json([extents], text)
    path = tmp_path / "extents.json"
    path.write_text(text.getvalue())

    with read_json(path, size=4096) as file:
        rows = np.concatenate(list(file.windows()))

    assert (rows == extents).all()
    assert json.loads(text.getvalue())[1] == {"offset": 1024, "length": 512, "type": "zero"}


def test_no_extents_are_an_empty_array() -> None:
    text = io.StringIO()
    write_json([], text)

    assert json.loads(text.getvalue()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", None),
        (" [ ] ", None),
        ('[{"offset": 0, "length": 1, "type": "data"}', "expected ]"),
        ('[{"offset": 0, "length": 1, "type": "data", "x": 1}]', "unknown field"),
        ('[{"offset": 0, "length": 1, "type": "data"}]]', "expected ]"),
        ("", "JSON array"),
        ("[", "JSON array"),
        ("{}", "expected"),
        ('[{"offset": 0}]', "cannot be read"),
        ('[{"offset": "0", "length": 1, "type": "data"}]', "cannot be read"),
        ('[{"offset": true, "length": 1, "type": "data"}]', "cannot be read"),
        ('[{"offset": -1, "length": 1, "type": "data"}]', "cannot be read"),
        ('[{"offset": 0, "length": 0, "type": "data"}]', "cannot be read"),
        ('[{"offset": 0, "length": 1, "type": "hole"}]', "cannot be read"),
        ('[{"offset": 1e3, "length": 1, "type": "data"}]', "cannot be read"),
        ("[7]", "cannot be read"),
        ('[{"offset": 4000, "length": 512, "type": "data"}]', "ends behind"),
        ('[{"offset": 9, "length": 9, "type": "data"}, {"offset": 0, "length": 1, "type": "data"}]', "ascending"),
        ('[{"offset": 0, "length": 9, "type": "data"}, {"offset": 8, "length": 1, "type": "zero"}]', "ascending"),
    ],
)
def test_wrong_extents_file_is_refused_with_its_name(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "extents.json"
    path.write_text(text)

    if message is None:
        with read_json(path, size=4096) as file:
            assert file.count == 0
    else:
        with pytest.raises(OptionsError, match=message) as caught:
            read_json(path, size=4096)
        assert str(path) in str(caught.value)


def test_total_of_huge_extents_does_not_wrap() -> None:
    assert total(np.array([(0, 2**62, 0), (2**62, 2**62, 0)], dtype=EXTENT)) == 2**63
