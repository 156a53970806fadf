"""Reading back what was written: only that proves what the target stores.

A full image is read back whole; what the image itself marks as zero is not transferred: such a cluster reads as zero
by definition, it is not somebody's word about bytes that lie elsewhere.  An overlay is read back only where this
capture wrote, because the rest is the previous point's, which was proved then and can be proved again by `ntx verify`.
The server that wrote has flushed and ended by then, and what reads is another process, so what is read has passed
through the file; where it lies in there is asked of a qemu that opens the image anew (image.py).
LIMIT: the page cache of this machine may still hold those pages; that the medium keeps them is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np

from ntxengine._core.device import Device
from ntxengine.changes import Changes, spool_to_file
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions, CopyReport, OnProgress
from ntxengine.dataplane.differing import differences
from ntxengine.dataplane.extents import EXTENT, WINDOW, ExtentFile, Extents, clipped
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.units import BLOCK_SIZE


async def read_back(
    device: Device,
    manifest: Manifest,
    before: Manifest | None,
    changes: Changes,
    *,
    directory: Path,
    options: CopyOptions,
    on_progress: OnProgress | None = None,
) -> CopyReport:
    """Compare an image, opened as `device`, with its manifest.  Extents are kept in `directory` meanwhile.

    Errors: ChecksumMismatch with the offsets; else as copy.verify.
    """
    with ExitStack() as stack:
        must_read_zeros = True
        if not changes.is_incremental:
            places = stack.enter_context(await map_device(device, timeout_s=options.timeout_s))
            must_read_zeros = False
        elif changes.must_compare and before is not None and before.size == manifest.size:
            places = stack.enter_context(await spool_to_file(_rewritten(before, manifest), directory))
        else:
            places = changes.extents
        return await dataplane.verify(
            device,
            manifest,
            options=options,
            trusts_zeros=True,
            extents=lambda: _within(places, manifest.size, must_read_zeros=must_read_zeros),
            on_progress=on_progress,
        )


def _within(places: ExtentFile, size: int, *, must_read_zeros: bool) -> Iterator[Extents]:
    """Yield extents without what lies past the disk.

    What the image says of itself is taken for true; what Prism said is zero is read like everything else, because
    whether it is zero in the image now is the question.
    """
    for window in places.windows():
        inside = clipped(window, size)
        if must_read_zeros:
            inside["flags"] = 0
        yield inside


def _rewritten(before: Manifest, manifest: Manifest) -> Iterator[Extents]:
    """Yield the blocks whose digest is another one than in the previous point."""
    blocks = differences(before, manifest)
    size = manifest.size
    while chosen := list(islice(blocks, WINDOW)):
        offsets = np.array(chosen, dtype="<u8") * BLOCK_SIZE
        window = np.zeros(len(chosen), dtype=EXTENT)
        window["offset"] = offsets
        window["length"] = np.minimum(offsets + BLOCK_SIZE, size) - offsets
        yield window
