"""Changed regions: from the JSON of a page to one array, and the walk through the pages.

The list may be long, so the structs hold three fields, are not tracked by the garbage collector, and become one numpy
array in one pass.  Order, overlap and alignment are not judged here: `changes` makes them extents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from ntxengine.errors import PrismAnswerError
from ntxengine.extents import EXTENT, ZERO
from ntxengine.prism.models import RegionPage
from ntxengine.prism.parse import MAX_OFFSET, Size, decode

MAX_REGIONS = 1_000_000
"""Regions in one page that we accept: v4 promises at most 10,000, v3 promises nothing."""

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


class _PageV3(msgspec.Struct):
    region_list: list[RegionV3] | None = None
    file_size: Size | None = None
    next_offset: Size | None = None


class _ExtraInfo(msgspec.Struct):
    name: str | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")


class _Value(msgspec.Struct):
    value: int | str | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    extra_info: list[_ExtraInfo] | None = None


class _PageV4(msgspec.Struct):
    data: list[RegionV4] | None = None
    metadata: _Metadata | None = None


def page_v3(body: bytes, *, start: int, request: str) -> RegionPage:
    """Return the page that began at `start`."""
    page = decode(body, _PageV3, request=request)
    regions = _array(page.region_list or (), request=request)
    return RegionPage(regions, page.file_size, _next(page.next_offset, start, page.file_size, request=request))


def page_v4(body: bytes, *, start: int, request: str) -> RegionPage:
    """Return the page that began at `start`; where it goes on is in metadata.extraInfo, by name, as text or number."""
    page = decode(body, _PageV4, request=request)
    extra = (page.metadata.extra_info if page.metadata else None) or []
    file_size = _extra(extra, "fileSize", request=request)
    next_offset = _extra(extra, "nextOffset", request=request)
    regions = _array(page.data or (), request=request)
    return RegionPage(regions, file_size, _next(next_offset, start, file_size, request=request))


def _array(regions: Sequence[RegionV3 | RegionV4], *, request: str) -> NDArray[np.void]:
    count = len(regions)
    if count > MAX_REGIONS:
        raise PrismAnswerError(f"{request}: {count} regions in one page, more than the {MAX_REGIONS} that we accept")
    found: NDArray[np.void] = np.empty(count, dtype=EXTENT)
    try:
        found["offset"] = np.fromiter([region.offset for region in regions], dtype=np.uint64, count=count)
        found["length"] = np.fromiter([region.length for region in regions], dtype=np.uint64, count=count)
    except OverflowError as exc:
        raise PrismAnswerError(f"{request}: a region's offset or length does not fit into 64 bits") from exc
    # Whatever is not ZEROED is data: a type that we do not know must be read, not guessed.
    found["flags"] = np.fromiter([ZERO if region.type == "ZEROED" else 0 for region in regions], np.uint64, count)
    limit = np.uint64(MAX_OFFSET)
    wrong = (found["offset"] > limit) | (found["length"] > limit - np.minimum(found["offset"], limit))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise PrismAnswerError(
            f"{request}: region {at} (offset {regions[at].offset} length {regions[at].length}) ends past 2^63"
        )
    kept: NDArray[np.void] = found[found["length"] != 0]
    return kept


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
    for item in extra:
        if item.name == name:
            held = decode(b'{"value":%b}' % bytes(item.value), _Value, request=f"{request}: metadata.extraInfo {name}")
            return _number(held.value, name, request=request)
    return None


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
