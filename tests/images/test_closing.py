"""What was opened is closed, also where its closing is cancelled before a thread is free for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.open import open_source
from ntxengine.images.create import NewImage, create_image
from ntxengine.images.open import WAYS, open_image
from ntxengine.units import MIB
from tests.repository.chains import SIZE, make

Opening = Callable[[Path], AbstractAsyncContextManager[Any]]

WAYS_TO_OPEN: dict[str, Opening] = {
    "by tables": lambda folder: open_image([folder / "image"]),
    "by map": lambda folder: WAYS[1].open([folder / "image"], True),
    "by server": lambda folder: open_image([folder / "image"], root_format="raw"),
    "a source": lambda folder: open_source(str(folder / "image")),
    "an image": lambda folder: create_image(NewImage(folder / "new", MIB), "qcow2", CopyOptions()),
    "an image of qemu": lambda folder: create_image(NewImage(folder / "new", MIB), "raw", CopyOptions()),
}


def open_below(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue  # that of the listing
    return [path for path in found if path.startswith(f"{folder}/")]


@pytest.mark.parametrize("name", WAYS_TO_OPEN)
async def test_what_was_opened_is_closed_where_its_closing_is_cancelled(tmp_path: Path, name: str) -> None:
    make(tmp_path / "image", SIZE, "compat=1.1")
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    is_open, may_close, is_free = asyncio.Event(), asyncio.Event(), threading.Event()

    async def use() -> None:
        async with WAYS_TO_OPEN[name](tmp_path) as opened:
            is_open.set()
            await may_close.wait()
            kept.append(opened)  # as a traceback would keep it

    kept: list[Any] = []
    task = asyncio.create_task(use())
    await is_open.wait()
    busy = asyncio.get_running_loop().run_in_executor(None, is_free.wait)
    may_close.set()
    while not kept:
        await asyncio.sleep(0)

    task.cancel()
    asyncio.get_running_loop().call_later(0.05, is_free.set)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert open_below(tmp_path) == []
    await busy
