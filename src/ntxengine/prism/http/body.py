"""The body of an answer, whole and within its bounds, also where it comes compressed though that was not asked for.

A few KiB can stand for gigabytes: what is unpacked is bounded before it is there, not after.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, Mapping

from ntxengine.errors import PrismAnswerError
from ntxengine.units import MIB

MAX_ANSWER_SIZE = 64 * MIB
"""Far above any page that we ask for, far below what would hurt."""

_EITHER_HEADER = 32 + zlib.MAX_WBITS  # of gzip, or of what HTTP calls deflate


async def read_body(headers: Mapping[str, str], chunks: AsyncIterable[bytes], name: str) -> bytes:
    """Return it; `chunks` are as they came.

    Errors: PrismAnswerError (too large, or encoded in a way that is not read).
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "deflate"):  # nor several of them: each multiplies the other
        raise PrismAnswerError(f"{name}: the answer has content encoding {encoding[:40]!r}, which was not asked for")
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > MAX_ANSWER_SIZE:
        raise _too_large(name)
    unpacking = zlib.decompressobj(_EITHER_HEADER) if encoding in ("gzip", "deflate") else None
    body = bytearray()
    async for chunk in chunks:
        room = MAX_ANSWER_SIZE - len(body) + 1
        body += chunk if unpacking is None else _unpacked(unpacking, chunk, room, name)
        if len(body) > MAX_ANSWER_SIZE:
            raise _too_large(name)
    if unpacking is not None and not unpacking.eof:
        raise _broken(name)
    return bytes(body)


def _unpacked(unpacking: zlib._Decompress, chunk: bytes, room: int, name: str) -> bytes:
    """Return at most `room` bytes; there are more then."""
    try:
        return unpacking.decompress(chunk, room)
    except zlib.error as exc:
        raise _broken(name) from exc


def _broken(name: str) -> PrismAnswerError:
    return PrismAnswerError(f"{name}: the answer's content encoding is broken")


def _too_large(name: str) -> PrismAnswerError:
    return PrismAnswerError(f"{name}: the answer is larger than {MAX_ANSWER_SIZE // MIB} MiB: not read")
