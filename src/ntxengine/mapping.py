"""Which extents of an opened device hold data, found out without reading it."""

from __future__ import annotations

import numpy as np

from ntxengine._core.engine import Device
from ntxengine.extents import ExtentFile, Extents
from ntxengine.shield import in_thread


async def map_device(device: Device, *, timeout_s: float = 60.0) -> ExtentFile:
    """Return the data and zero extents that cover `device`; the caller closes them.

    Shape:  contiguous from 0 to its size, neighbours of one kind joined; one data extent if the device cannot tell.
    Units:  timeout_s is for each question; a device with many extents takes many.
    Errors: PlaceError, NbdError, TransferTimeout.
    """
    found = ExtentFile()
    try:
        kept: Extents | None = None
        offset = 0
        while offset < device.size:
            window = await in_thread(device.map, offset, device.size - offset, timeout_ms=max(1, int(timeout_s * 1000)))
            offset = int(window["offset"][-1] + window["length"][-1])
            if kept is not None:
                window = _joined(kept, window)
            # The last one may go on in the next answer.
            found.append(window[:-1])
            kept = window[-1:]
        if kept is not None:
            found.append(kept)
    except BaseException:
        found.close()
        raise
    return found


def _joined(last: Extents, window: Extents) -> Extents:
    """Put the one extent `last` before `window`, as one with its first if both are of one kind."""
    if last["flags"][0] != window["flags"][0]:
        return np.concatenate([last, window])
    window["length"][0] += last["length"][0]
    window["offset"][0] = last["offset"][0]
    return window
