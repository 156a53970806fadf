"""A disk that appears on this machine as a block device, a moment after it was added: udev makes its name."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ntxengine.attach.base import readable_size
from ntxengine.concurrency.completion import call_with_timeout
from ntxengine.errors import AttachError, machine_error


async def wait_for_device(folder: Path, suffix: str, *, timeout_s: float, poll_s: float) -> tuple[Path, int] | None:
    """Return the device whose name ends with `suffix`, and its size; None if there is none of a size in time.

    Errors: AttachError (the name is that of two devices, or the device cannot be read); MachineError.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        left_s = max(deadline - loop.time(), poll_s)
        try:
            found = await call_with_timeout(lambda: _find(folder, suffix), left_s)
        except (TimeoutError, FileNotFoundError):  # the folder is there with the first device
            found = None
        except OSError as error:
            action = f"cannot read the disk in {folder}"
            raise machine_error(action, error) or AttachError(f"{action}: {error}") from error
        # The name may be there before the capacity is.
        if found is not None and found[1] > 0:
            return found
        if loop.time() >= deadline:
            return None
        await asyncio.sleep(poll_s)


def _find(folder: Path, suffix: str) -> tuple[Path, int] | None:
    """Return the device whose name ends with `suffix`, and its size; None while there is none.

    Several names may lead to one device; one name for two devices is refused.  Partitions end otherwise (`-part1`).
    """
    devices: set[Path] = set()
    for entry in folder.iterdir():
        if entry.name.lower().endswith(suffix):
            try:
                devices.add(entry.resolve(strict=True))
            except FileNotFoundError:  # udev is at work
                continue
    if not devices:
        return None
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise AttachError(f"{folder} has more than one device named ...{suffix}: {names}")
    device = devices.pop()
    return device, readable_size(device)
