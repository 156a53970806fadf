"""Which extents of an opened device hold data, found out without reading it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import run_to_completion, to_thread_joined
from ntxengine.dataplane.extents import ExtentFile, Extents, make
from ntxengine.errors import NbdReplyError, NtxError

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""A map is there at once, as a rule; only one that takes longer is worth a word."""

OnMapped = Callable[[int, float], None]
"""Called with the bytes that are mapped, and the seconds that this took."""


async def map_device(
    device: Device, *, timeout_s: float = 60.0, on_progress: OnMapped | None = None, patience_s: float = PATIENCE_S
) -> ExtentFile:
    """Return the data and zero extents that cover `device`; the caller closes them.

    Shape:  contiguous from 0 to its size, neighbours of one kind joined; data from where the device does not tell.
    Units:  timeout_s is for each question; a device with many extents takes many, and so does an NBD export of
            pebibytes: it answers for 4 GiB at a time.  `on_progress` is told of it after `patience_s`.
    Errors: PlaceError, NbdError (but a refused request: what it was about is taken for data), TransferTimeout.
    """
    found = ExtentFile()
    try:
        kept: Extents | None = None
        offset = 0
        began_s = time.monotonic()
        while offset < device.size:
            try:
                window = await _map(device, offset, timeout_ms=max(1, int(timeout_s * 1000)))
            except NbdReplyError as exc:
                # What holds data is worth knowing, and no reason to fail: to read everything is right, too.
                log.warning("%s: everything from offset %d on is taken for data", exc, offset)
                window = make([(offset, device.size - offset, 0)])
            offset = int(window["offset"][-1] + window["length"][-1])
            if kept is not None:
                window = _joined(kept, window)
            # The last one may go on in the next answer.
            found.append(window[:-1])
            kept = window[-1:]
            seconds = time.monotonic() - began_s
            if on_progress is not None and seconds >= patience_s:
                on_progress(offset, seconds)
        if kept is not None:
            found.append(kept)
    except BaseException:
        found.close()
        raise
    return found


async def _map(device: Device, offset: int, *, timeout_ms: int) -> Extents:
    """Ask in a thread; a cancellation does not wait for the answer, only for the thread."""
    asking = asyncio.ensure_future(to_thread_joined(device.map, offset, device.size - offset, timeout_ms=timeout_ms))
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        device.interrupt()
        await run_to_completion(_ended(asking))
        raise


async def _ended(asking: asyncio.Future[Extents]) -> None:
    with suppress(NtxError):  # that it was interrupted
        await asking


def _joined(last: Extents, window: Extents) -> Extents:
    """Put the one extent `last` before `window`, as one with its first if both are of one kind."""
    if last["flags"][0] != window["flags"][0]:
        return np.concatenate([last, window])
    window["length"][0] += last["length"][0]
    window["offset"][0] = last["offset"][0]
    return window
