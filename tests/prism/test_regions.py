"""Pages of changed regions: what is taken, and what is refused by name of request and field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.errors import PrismAnswerError
from ntxengine.prism import regions
from ntxengine.prism.http.session import Answer
from ntxengine.prism.models import RegionPage
from ntxengine.prism.regions import page_v3, page_v4, walk


def v3(**page: Any) -> bytes:
    return json.dumps(page).encode()


def v4(data: Any, **extra: Any) -> bytes:
    listed = [{"name": name, "value": value} for name, value in extra.items()]
    return json.dumps({"data": data, "metadata": {"extraInfo": listed}}).encode()


def rows(page: Any) -> list[tuple[int, ...]]:
    return [tuple(int(value) for value in row) for row in page.regions]


def test_zeroed_is_zero_and_every_other_type_is_data() -> None:
    body = v3(
        region_list=[
            {"offset": 0, "length": 512, "type": "REGULAR"},
            {"offset": 512, "length": 512, "type": "ZEROED"},
            {"offset": 1024, "length": 512, "type": "SPARKLING"},
            {"offset": 1536, "length": 512},
        ],
        file_size=4096,
    )

    page = page_v3(body, start=0, request="r")

    assert rows(page) == [(0, 512, 0), (512, 512, 1), (1024, 512, 0), (1536, 512, 0)]


@pytest.mark.parametrize("next_offset", [{}, {"next_offset": None}, {"next_offset": 0}, {"next_offset": 4096}])
def test_v3_ends_when_next_offset_is_absent_null_zero_or_the_end(next_offset: dict[str, Any]) -> None:
    page = page_v3(v3(region_list=[], file_size=4096, **next_offset), start=0, request="r")

    assert page.next_offset is None
    assert page.disk_size == 4096
    assert rows(page) == []


@pytest.mark.parametrize("as_text", [str, int])
def test_v4_reads_extra_info_by_name_as_text_or_number(as_text: Any) -> None:
    body = v4([], regionCount="1", fileSize=as_text(1 << 30), nextOffset=as_text(65536))

    page = page_v4(body, start=0, request="r")

    assert (page.next_offset, page.disk_size) == (65536, 1 << 30)


@pytest.mark.parametrize(
    "extra", [{}, {"nextOffset": None}, {"nextOffset": 0}, {"nextOffset": "0"}, {"nextOffset": ""}]
)
def test_v4_ends_when_next_offset_is_absent_null_or_zero(extra: dict[str, Any]) -> None:
    assert page_v4(v4(None, **extra), start=0, request="r").next_offset is None


@pytest.mark.parametrize("extra", [{}, {"nextOffset": None}, {"nextOffset": 0}])
def test_a_page_that_is_cut_off_and_names_no_next_one_is_refused(extra: dict[str, Any]) -> None:
    body = json.loads(v4([], fileSize=4096, **extra))
    body["metadata"]["flags"] = [{"name": "hasError", "value": False}, {"name": "isTruncated", "value": True}]

    with pytest.raises(PrismAnswerError, match="POST /x: the page at offset 512 is cut off"):
        page_v4(json.dumps(body).encode(), start=512, request="POST /x")

    body["metadata"]["extraInfo"].append({"name": "nextOffset", "value": "1024"})
    if extra.get("nextOffset") is None:
        assert page_v4(json.dumps(body).encode(), start=512, request="POST /x").next_offset == 1024


def test_extra_info_that_contradicts_itself_is_refused() -> None:
    listed = [{"name": "fileSize", "value": value} for value in ("4096", 4096, "512")]
    body = json.dumps({"data": [], "metadata": {"extraInfo": listed}}).encode()

    with pytest.raises(PrismAnswerError, match="fileSize is there twice"):
        page_v4(body, start=0, request="POST /x")


async def pages(*bodies: bytes) -> list[RegionPage]:
    """Walk through pages of v3."""
    left = list(bodies)

    async def ask(_start: int) -> Answer:
        return Answer("POST /x", 200, {}, left.pop(0))

    found = [page async for page in walk(ask, page_v3)]
    assert not left
    return found


REGION = {"offset": 0, "length": 512, "type": "REGULAR"}


@pytest.mark.parametrize("size", [{}, {"file_size": 2048}, {"file_size": None}])
async def test_a_page_that_loses_or_changes_the_size_is_refused(size: dict[str, Any]) -> None:
    first = v3(region_list=[REGION], file_size=4096, next_offset=512)

    with pytest.raises(PrismAnswerError, match=r"POST /x: two pages disagree about the size.*4096 bytes at offset 0"):
        await pages(first, v3(region_list=[REGION], **size))


async def test_a_size_that_comes_late_is_refused() -> None:
    with pytest.raises(PrismAnswerError, match="no size at offset 0, 4096 bytes at offset 512"):
        await pages(v3(region_list=[REGION], next_offset=512), v3(region_list=[], file_size=4096))


async def test_a_later_page_that_says_nothing_is_refused() -> None:
    with pytest.raises(PrismAnswerError, match="says nothing"):
        await pages(v3(region_list=[REGION], next_offset=512), v3())


@pytest.mark.parametrize("told", [[], [{**REGION, "length": 0}], [REGION], [REGION, {**REGION, "offset": 512}]])
async def test_pages_that_lead_nowhere_are_refused(told: list[dict[str, Any]]) -> None:
    asked = 0
    first = int(any(region["length"] for region in told))

    async def ask(start: int) -> Answer:
        nonlocal asked
        asked += 1
        assert asked <= 2 * regions.MAX_STALE_PAGES
        return Answer("POST /x", 200, {}, v3(region_list=told, file_size=1 << 40, next_offset=start + 1))

    with pytest.raises(PrismAnswerError, match=r"10001 pages without a region that is new.*does not end"):
        async for _ in walk(ask, page_v3):
            pass
    assert asked == regions.MAX_STALE_PAGES + 1 + first


async def test_pages_that_overlap_leave_gaps_or_are_empty_are_taken() -> None:
    ahead = {"offset": 1024, "length": 512}

    found = await pages(
        v3(region_list=[REGION, ahead], file_size=8192, next_offset=1024),
        v3(region_list=[ahead], file_size=8192, next_offset=4096),
        v3(file_size=8192, next_offset=4608),
        v3(region_list=[], file_size=8192),
    )

    assert [rows(page) for page in found] == [[(0, 512, 0), (1024, 512, 0)], [(1024, 512, 0)], [], []]


@pytest.mark.parametrize("body", [b"{}", b'{"data": null, "metadata": null}'])
def test_an_empty_v4_page_is_an_empty_page(body: bytes) -> None:
    assert rows(page_v4(body, start=0, request="r")) == []


@pytest.mark.parametrize("next_offset", [65536, 65535, 512])
def test_a_next_offset_that_does_not_move_on_is_refused(next_offset: int) -> None:
    with pytest.raises(PrismAnswerError, match=r"POST /x.*65536"):
        page_v3(v3(region_list=[], next_offset=next_offset), start=65536, request="POST /x")
    with pytest.raises(PrismAnswerError, match="no way on"):
        page_v4(v4([], nextOffset=str(next_offset)), start=65536, request="POST /x")


@pytest.mark.parametrize(
    ("region", "field"),
    [
        ({"offset": -512, "length": 512}, "offset"),
        ({"offset": 0, "length": -1}, "length"),
        ({"offset": "0", "length": 1}, "offset"),
        ({"offset": 0.5, "length": 1}, "offset"),
        ({"offset": True, "length": 1}, "offset"),
        ({"offset": 0}, "length"),
        ({"offset": None, "length": 1}, "offset"),
        ({"offset": 2**63 - 1, "length": 2}, "2^63"),
        ({"offset": 2**63, "length": 0}, "2^63"),
        ({"offset": 0, "length": 2**63}, "2^63"),
        ({"offset": 2**64 + 5, "length": 1}, "64 bits"),
        ({"offset": 0, "length": 10**30}, "64 bits"),
    ],
)
def test_an_impossible_region_is_refused_with_its_place(region: dict[str, Any], field: str) -> None:
    good = {"offset": 0, "length": 512, "type": "REGULAR"}

    with pytest.raises(PrismAnswerError, match="POST /x") as refused_v3:
        page_v3(v3(region_list=[good, region]), start=0, request="POST /x")
    with pytest.raises(PrismAnswerError, match="POST /x") as refused_v4:
        page_v4(v4([good, region]), start=0, request="POST /x")

    assert field.replace("2^63", "ends past 2^63") in str(refused_v3.value)
    assert field in str(refused_v4.value)


def test_the_largest_region_that_exists_is_taken() -> None:
    page = page_v3(v3(region_list=[{"offset": 2**63 - 2, "length": 1}]), start=0, request="r")

    assert rows(page) == [(2**63 - 2, 1, 0)]


def test_regions_of_length_zero_are_left_out() -> None:
    page = page_v3(v3(region_list=[{"offset": 5, "length": 0}, {"offset": 9, "length": 1}]), start=0, request="r")

    assert rows(page) == [(9, 1, 0)]


@pytest.mark.parametrize("value", ["x", "-1", "1e3", "\u0661", "9" * 20, -1, 2**63, True, 1.5, [1], {"a": 1}])
@pytest.mark.parametrize("name", ["nextOffset", "fileSize"])
def test_extra_info_that_is_no_offset_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(PrismAnswerError, match=name):
        page_v4(v4([], **{name: value}), start=0, request="POST /x")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"region_list": {}}', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(PrismAnswerError, match="POST /x"):
        page_v3(body, start=0, request="POST /x")


def test_a_page_with_too_many_regions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "MAX_REGIONS", 2)

    with pytest.raises(PrismAnswerError, match="3 regions"):
        page_v3(v3(region_list=[{"offset": 0, "length": 1}] * 3), start=0, request="r")


values = st.one_of(
    st.integers(0, 2**63), st.integers(-1, 10**20), st.none(), st.booleans(), st.floats(), st.text(), st.just([1])
)
listed = st.fixed_dictionaries(
    {"offset": st.integers(0, 2**40), "length": st.integers(0, 2**22)},
    optional={
        "regionType": st.sampled_from(["ZEROED", "REGULAR", "NEW", None]),
        "$objectType": st.text("abc.", max_size=40),
    },
)
strange = st.dictionaries(st.sampled_from(["offset", "length", "regionType", "x", "\u00e9", 'a"b']), values, max_size=5)


def outcome(body: bytes) -> object:
    try:
        return rows(page_v4(body, start=0, request="r"))
    except PrismAnswerError as error:
        return str(error)


@settings(max_examples=400)
@given(
    regions_listed=st.lists(st.one_of(listed, listed, strange), max_size=5),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
    place=st.floats(0, 1),
    byte=st.one_of(st.none(), st.sampled_from(list(b'{}[],:"\\ 0-1.eEntx\xc3\x00'))),
)
def test_the_fast_way_reads_what_the_strict_one_reads(
    regions_listed: list[dict[str, Any]], separators: tuple[str, str], place: float, byte: int | None
) -> None:
    body = bytearray(json.dumps({"data": regions_listed}, separators=separators).encode())
    if byte is not None:
        body[min(int(place * len(body)), len(body) - 1)] = byte

    fast = outcome(bytes(body))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "from_json", lambda *_, **__: None)
        strict = outcome(bytes(body))

    assert fast == strict


def test_a_page_as_prism_writes_it_is_read_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(regions, "_array")
    kind = "dataprotection.v4.content.ChangedRegion"
    region = {"$reserved": None, "$objectType": kind, "offset": 65536, "length": 512, "regionType": "ZEROED"}

    assert rows(page_v4(v4([region]), start=0, request="r")) == [(65536, 512, 1)]
    assert rows(page_v3(v3(region_list=[{"offset": 1, "length": 2, "type": "REGULAR"}]), start=0, request="r")) == [
        (1, 2, 0)
    ]


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata":{"data":[{"offset":1,"length":2}]},"data":[{"offset":3,"length":4}]}',
        b'{"data":[{"offset":1,"length":2}],"data":[{"offset":3,"length":4}]}',
        b'{"x":"\\"data\\":[{\\"offset\\":1,\\"length\\":2}]","data":[{"offset":3,"length":4}]}',
        b'{"data":[{"offset":1,"length":2}],"data":[{"offset":3,"length":4,"x":[]}]}',
    ],
)
def test_another_list_of_the_same_name_is_not_taken_for_the_regions(body: bytes) -> None:
    assert rows(page_v4(body, start=0, request="r")) == [(3, 4, 0)]


def test_a_list_of_that_name_elsewhere_is_no_regions() -> None:
    assert rows(page_v4(b'{"metadata":{"data":[{"offset":1,"length":2}]}}', start=0, request="r")) == []
    with pytest.raises(PrismAnswerError, match="array"):
        page_v4(b'{"metadata":{"data":[{"offset":1,"length":2}]},"data":"x"}', start=0, request="r")
