"""Extents as JSON files: what `ntx map --json` writes and `ntx copy --extents` reads.

    [{"offset": 0, "length": 65536, "type": "data"}, {"offset": 65536, "length": 1048576, "type": "zero"}]

Apart from extents.py, so that a copy without such a file need not load a JSON decoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Literal

import msgspec
import numpy as np

from ntxengine.dataplane.extents import ZERO, ExtentFile, Extents, check_bounds, join_neighbours, make
from ntxengine.errors import OptionsError
from ntxengine.units import MIB


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    length: Annotated[int, msgspec.Meta(gt=0, le=2**63 - 1)]
    type: Literal["data", "zero"]


_ROWS = msgspec.json.Decoder(list[_Row])


def read_json(path: Path, *, size: int) -> ExtentFile:
    """Read a JSON array of `{"offset": int, "length": int, "type": "data"|"zero"}` as `ntx map --json` writes it.

    Shape:  ascending and not overlapping, checked; any number, streamed.
    Errors: OptionsError that names the file and the extent.
    """
    if path.exists() and not path.is_file():
        # Waiting for the other end of a pipe could not be interrupted.
        raise OptionsError(f"{path}: is not a regular file: write the extents to one")
    result = ExtentFile()
    try:
        with open(path, "rb") as file:
            for rows in _json_windows(file):
                _append_in_order(result, rows, path, size)
    except (OSError, ValueError) as exc:  # msgspec's errors are ValueErrors
        result.close()
        form = '[{"offset": bytes, "length": bytes, "type": "data" or "zero"}, ...]'
        raise OptionsError(f"{path}: cannot be read as a JSON array of extents, {form}: {exc}") from exc
    except BaseException:
        result.close()
        raise
    return result


def _append_in_order(result: ExtentFile, rows: Extents, path: Path, size: int) -> None:
    check_bounds(rows, size=size, name=str(path))
    ends = rows["offset"] + rows["length"]
    previous = np.concatenate([np.array([result.end], dtype="<u8"), ends[:-1]])
    wrong = rows["offset"] < previous
    if wrong.any():
        i = int(wrong.argmax())
        raise OptionsError(
            f"{path}: extent at offset {rows['offset'][i]} begins before the end of the one before it, {previous[i]}: "
            "extents must be ascending and must not overlap"
        )
    result.append(join_neighbours(rows))


def _json_windows(file: IO[bytes]) -> Iterator[Extents]:
    """Decode the array in parts.  Its objects are flat, so that every part may end behind a `}`."""
    rest, before = b"", b"["
    while chunk := file.read(MIB):
        body, brace, rest = (rest + chunk).rpartition(b"}")
        if len(rest) > MIB:
            raise ValueError("an object of more than 1 MiB")
        if brace:
            yield _decode_rows(body + brace, before)
            before = b","
    rest = rest.strip()
    if rest.removeprefix(b"[").strip() != b"]" or rest.startswith(b"[") != (before == b"["):
        raise ValueError(f"expected ] behind the last extent, found {rest[:40].decode(errors='replace')!r}")


def _decode_rows(text: bytes, before: bytes) -> Extents:
    """Decode objects that follow `before` (the array's bracket, or a comma)."""
    text = text.lstrip()
    if not text.startswith(before):
        raise ValueError(f"expected {before.decode()} before {text[:40].decode(errors='replace')!r}")
    rows = _ROWS.decode(b"[" + text[1:] + b"]")
    return make((row.offset, row.length, ZERO if row.type == "zero" else 0) for row in rows)


def write_json(windows: Iterable[Extents], file: IO[str]) -> None:
    """Write extents as the JSON array that `read_json` reads, one a line."""
    separator = "["
    for window in windows:
        for offset, length, flags in window.tolist():
            kind = "zero" if flags & ZERO else "data"
            file.write(f'{separator}\n  {{"offset": {offset}, "length": {length}, "type": "{kind}"}}')
            separator = ","
    file.write("[]\n" if separator == "[" else "\n]\n")
