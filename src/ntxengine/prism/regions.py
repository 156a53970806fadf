"""Changed regions: from the JSON of a page to one array, and the walk through the pages.

The list may be long: the core reads a plain one straight into the array.  A list that has anything unusual in it is
decoded a second time into structs, which take what may be taken and name what is wrong.  Order, overlap and alignment
are not judged here: `changes` makes them extents.

What a page that is taken may do, and what not (docs/prism.md, "Answers that are refused"):

    end its regions before next_offset, or after it     both are seen; the next page begins at next_offset
    begin before its own start                          offsets may be aligned to a block
    have regions and no size, or a size and no region   "nothing changed" is a size without regions
    lead to a page that is not further on, or to none although it is cut off                        refused
    differ in size from the first one, or say neither regions nor a size after the first one        refused
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args

import msgspec
import numpy as np

from ntxengine.dataplane.extents import EXTENT, ZERO, Extents, from_json
from ntxengine.errors import PrismAnswerError
from ntxengine.prism.http.parse import MAX_OFFSET, Size, decode
from ntxengine.prism.http.session import Answer
from ntxengine.prism.models import RegionPage

T = TypeVar("T")

MAX_REGIONS = 1_000_000
"""Regions in one page that we accept: v4 promises at most 10,000, v3 promises nothing."""

MAX_STALE_PAGES = 10_000
"""Pages in a row that we go on behind although they lead no further: no region ends after all those before."""

_ZEROED = "ZEROED"

_Offset = Annotated[int, msgspec.Meta(ge=0)]


class RegionV3(msgspec.Struct, gc=False):
    """A region as v3 writes it: the key is `type` (nutanix-api, 3.6)."""

    offset: _Offset
    length: _Offset
    type: str | None = None


class RegionV4(msgspec.Struct, gc=False, rename={"type": "regionType"}):
    """A region as v4 writes it."""

    offset: _Offset
    length: _Offset
    type: str | None = None


_Taken = Literal["regions that the core has read"]
_TAKEN = msgspec.json.encode(get_args(_Taken)[0])


class _EndV3(msgspec.Struct):
    file_size: Size | None = None
    next_offset: Size | None = None


class _PageV3(_EndV3):
    region_list: list[RegionV3] | None = None


class _RestV3(_EndV3, kw_only=True):
    region_list: _Taken


class _ExtraInfo(msgspec.Struct):
    name: str | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Value(msgspec.Struct):
    value: int | str | None = None


class _Flag(msgspec.Struct):
    name: str | None = None
    value: Any = None


class _Metadata(msgspec.Struct, rename="camel"):
    extra_info: list[_ExtraInfo] | None = None
    flags: list[_Flag] | None = None

    @property
    def is_truncated(self) -> bool:
        """Whether Prism says that this is not all."""
        return any(flag.name == "isTruncated" and flag.value is True for flag in self.flags or ())


class _EndV4(msgspec.Struct):
    metadata: _Metadata | None = None


class _PageV4(_EndV4):
    data: list[RegionV4] | None = None


class _RestV4(_EndV4, kw_only=True):
    data: _Taken


class ReadPage(Protocol):
    """How a family writes a page: `page_v3`, `page_v4`."""

    def __call__(self, body: bytes, *, start: int, request: str) -> RegionPage: ...


async def walk(ask: Callable[[int], Awaitable[Answer]], read: ReadPage) -> AsyncIterator[RegionPage]:
    """Yield all pages; `ask` gets the one that begins at an offset.

    Errors: PrismAnswerError if a page cannot be true, or does not go with the first one; what `ask` raises.
    """
    first: RegionPage | None = None
    start: int | None = 0
    reached = stale = 0
    while start is not None:
        answer = await ask(start)
        page = read(answer.body, start=start, request=answer.request)
        end = int((page.regions["offset"] + page.regions["length"]).max(initial=0))
        stale = 0 if end > reached else stale + 1
        reached = max(reached, end)
        if stale > MAX_STALE_PAGES:
            raise PrismAnswerError(
                f"{answer.request}: {stale} pages without a region that is new, one after the other, up to offset "
                f"{start}: this does not end"
            )
        if first is None:
            first = page
        elif page.disk_size != first.disk_size:
            raise PrismAnswerError(
                f"{answer.request}: two pages disagree about the size of the disk: {_size(first)} at offset 0, "
                f"{_size(page)} at offset {start}"
            )
        elif page.disk_size is None and not len(page.regions) and page.next_offset is None:
            raise PrismAnswerError(f"{answer.request}: the page at offset {start} says nothing: no region, no size")
        yield page
        start = page.next_offset


def _size(page: RegionPage) -> str:
    return "no size" if page.disk_size is None else f"{page.disk_size} bytes"


def page_v3(body: bytes, *, start: int, request: str) -> RegionPage:
    """Return the page that began at `start`."""
    plain = _plain(body, _RestV3, key="region_list", kind_key="type")
    end: _EndV3
    if plain is not None:
        regions, end = plain
    else:
        end = page = decode(body, _PageV3, request=request)
        regions = _array(page.region_list or (), request=request)
    regions = _possible(regions, request=request)
    return RegionPage(regions, end.file_size, _next(end.next_offset, start, end.file_size, request=request))


def page_v4(body: bytes, *, start: int, request: str) -> RegionPage:
    """Return the page that began at `start`; where it goes on is in metadata.extraInfo, by name, as text or number."""
    plain = _plain(body, _RestV4, key="data", kind_key="regionType")
    end: _EndV4
    if plain is not None:
        regions, end = plain
    else:
        end = page = decode(body, _PageV4, request=request)
        regions = _array(page.data or (), request=request)
    extra = (end.metadata.extra_info if end.metadata else None) or []
    file_size = _extra(extra, "fileSize", request=request)
    next_offset = _extra(extra, "nextOffset", request=request)
    if not next_offset and end.metadata is not None and end.metadata.is_truncated:
        raise PrismAnswerError(
            f"{request}: the page at offset {start} is cut off (isTruncated), and no next one is named"
        )
    regions = _possible(regions, request=request)
    return RegionPage(regions, file_size, _next(next_offset, start, file_size, request=request))


def _plain(body: bytes, rest: type[T], *, key: str, kind_key: str) -> tuple[Extents, T] | None:
    """Return the regions and the rest of a page that is plain, or None.

    The array that seems to be it is cut out, and a mark put in its place.  If the mark is then not where the regions
    have to be, it was another one.
    """
    found = re.search(rb'"%b"\s*:\s*(?=\[)' % key.encode(), body)
    if found is None:
        return None
    at = found.end()
    taken = from_json(memoryview(body)[at:], kind_key=kind_key, zero_kind=_ZEROED, capacity=MAX_REGIONS)
    if taken is None:
        return None
    regions, length = taken
    try:
        return regions, msgspec.json.decode(body[:at] + _TAKEN + body[at + length :], type=rest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None  # what is wrong with it is said of the whole page


def _array(regions: Sequence[RegionV3 | RegionV4], *, request: str) -> Extents:
    """Return regions of any other list."""
    count = len(regions)
    if count > MAX_REGIONS:
        raise PrismAnswerError(f"{request}: {count} regions in one page, more than the {MAX_REGIONS} that we accept")
    found: Extents = np.empty(count, dtype=EXTENT)
    try:
        found["offset"] = np.fromiter([region.offset for region in regions], dtype=np.uint64, count=count)
        found["length"] = np.fromiter([region.length for region in regions], dtype=np.uint64, count=count)
    except OverflowError as exc:
        raise PrismAnswerError(f"{request}: a region's offset or length does not fit into 64 bits") from exc
    # Whatever is not ZEROED is data: a type that we do not know must be read, not guessed.
    found["flags"] = np.fromiter([ZERO if region.type == _ZEROED else 0 for region in regions], np.uint64, count)
    return found


def _possible(found: Extents, *, request: str) -> Extents:
    """Return regions without the empty ones; refuse any that ends where no disk can."""
    offset, length = found["offset"], found["length"]
    limit = np.uint64(MAX_OFFSET)
    wrong = (offset > limit) | (length > limit - np.minimum(offset, limit))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise PrismAnswerError(f"{request}: region {at} (offset {offset[at]} length {length[at]}) ends past 2^63")
    return found if length.all() else found[length != 0]


def _next(next_offset: int | None, start: int, file_size: int | None, *, request: str) -> int | None:
    """Return where the next page begins; absent, null, 0 and the end of the file all mean that there is none."""
    if not next_offset or (file_size is not None and next_offset >= file_size):
        return None
    if next_offset <= start:
        raise PrismAnswerError(
            f"{request}: the page at offset {start} says that the next is at {next_offset}: no way on"
        )
    return next_offset


def _extra(extra: list[_ExtraInfo], name: str, *, request: str) -> int | None:
    """Return the number that is named so; None if none is, or it is null."""
    where = f"{request}: metadata.extraInfo {name}"
    values = [b'{"value":%b}' % bytes(item.value) for item in extra if item.name == name]
    found = {_number(decode(value, _Value, request=where).value, name, request=request) for value in values} - {None}
    if len(found) > 1:
        raise PrismAnswerError(f"{where} is there twice, as {' and '.join(str(number) for number in found)}")
    return found.pop() if found else None


def _number(value: int | str | None, name: str, *, request: str) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 19):
            raise PrismAnswerError(f"{request}: metadata.extraInfo {name} is {value[:40]!r}, which is no number")
        value = int(value)
    if not 0 <= value <= MAX_OFFSET:
        raise PrismAnswerError(f"{request}: metadata.extraInfo {name} is {value}, which no offset can be")
    return value
