"""Mapping a source, with a bar if it takes long."""

from __future__ import annotations

from ntxengine._core.device import Device
from ntxengine.cli.progress import Amount, View
from ntxengine.dataplane.extents import ExtentFile
from ntxengine.dataplane.mapping import map_device


async def map_shown(device: Device, view: View, *, timeout_s: float) -> ExtentFile:
    """Map `device` and show how far it is, if that takes longer than a moment."""

    def tell(mapped: int, seconds: float) -> None:
        view.update("map", Amount(mapped, device.size, seconds))

    return await map_device(device, timeout_s=timeout_s, on_progress=tell)
