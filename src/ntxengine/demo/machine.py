"""What the demo needs of this machine, looked at before it begins."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from ntxengine.errors import MachineError
from ntxengine.units import GIB, format_size

NEEDED_BYTES = 2 * GIB

ADDRESSES = ("127.0.0.1", "127.0.0.2")
"""Of Prism Central and of the Prism Element."""


def check_space(folder: Path) -> None:
    """Raise MachineError if the file system of `folder` has too little room."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise MachineError(
            f"{folder}: the demo needs {format_size(NEEDED_BYTES)}, and {format_size(free)} are free: name a folder "
            f"elsewhere with --dir"
        )


def check_addresses() -> None:
    """Raise MachineError if the simulator could not serve at its addresses."""
    for address in ADDRESSES:
        with socket.socket() as probe:
            try:
                probe.bind((address, 0))
            except OSError as exc:
                raise MachineError(
                    f"{address}: nothing can be served there, as the simulated cluster must: {exc.strerror}"
                ) from exc
