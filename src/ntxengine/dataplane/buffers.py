"""The memory that copies which run at the same time share.

A copy bounds its own buffers.  Of a VM with many disks that is not enough: 64 times 32 MiB are 2 GiB.  So what all of
them may have together is divided among as many as run at once.  Whatever else runs in this process is kept within one
budget (memory.py): a copy reserves all that it takes before it begins, and is made smaller where it gets less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from ntxengine._core.device import Device
from ntxengine._core.engine import memory_of
from ntxengine._core.limits import Limits
from ntxengine.dataplane.extents import EXTENT, WINDOW
from ntxengine.dataplane.options import CopyOptions
from ntxengine.units import BLOCK_SIZE, MIB

TOTAL_BUFFER_BYTES = 256 * MIB
"""Eight copies with the default options; from nine on they have less each."""

FEED_BYTES = 2 * WINDOW * EXTENT.itemsize
"""Extents on their way into a job: a window that was read, and the next one."""

_REQUESTS = 8
"""Of the buffers, at least: with fewer and larger ones the ends are idle in turn."""


def split_buffers(options: CopyOptions, copies: int) -> CopyOptions:
    """Return the options for each of `copies` that run at once: all their buffers stay within TOTAL_BUFFER_BYTES.

    And within the limit of their memory, if there is one.  A copy has at least one buffer, so requests get smaller
    where one alone would be more than its share.
    """
    total = min(TOTAL_BUFFER_BYTES, options.memory_limit or TOTAL_BUFFER_BYTES)
    buffer_bytes = min(options.max_buffer_bytes, total // max(1, copies))
    whole_blocks = max(1, buffer_bytes // BLOCK_SIZE) * BLOCK_SIZE
    request_size = whole_blocks if options.begin.request_size > whole_blocks else options.request_size
    return dataclasses.replace(options, max_buffer_bytes=buffer_bytes, request_size=request_size)


@asynccontextmanager
async def reserved(
    source: Device, target: Device, options: CopyOptions, *, disk_size: int, bytes_expected: int
) -> AsyncIterator[tuple[CopyOptions, int]]:
    """Have the memory that a copy takes, with what finishing the target takes after it; wait for it if need be.

    Gives the options that it is to be made with, which are smaller where there is less, and the bytes that it has.
    Errors: OptionsError (not even with the smallest ones, or options that the core refuses).
    """

    def bytes_of(choice: CopyOptions) -> int:
        limits = limits_of(source, target, choice)
        taken = memory_of(source, target, limits, disk_size=disk_size, bytes_expected=bytes_expected)
        return max(taken + FEED_BYTES, target.finish_bytes)

    choices = [(choice, bytes_of(choice)) for choice in _smaller_and_smaller(options)]
    sizes = [taken for _, taken in choices]
    async with options.reserve(f"copying {source.name} to {target.name}", sizes) as granted:
        yield choices[sizes.index(granted)]


def limits_of(source: Device, target: Device, options: CopyOptions) -> Limits:
    """Return what a job of the core from one to the other keeps to."""
    return options.limits(from_server=source.kind == "nbd", over_tcp=target.is_tcp)


def _smaller_and_smaller(options: CopyOptions) -> Iterator[CopyOptions]:
    """Yield the options, then with half of their buffers, and so on, to a single block; all with whole blocks."""
    yield options
    buffer_bytes, request_size = options.max_buffer_bytes, options.begin.request_size
    while buffer_bytes > BLOCK_SIZE:
        buffer_bytes = max(BLOCK_SIZE, buffer_bytes // 2)
        request_size = min(request_size, max(1, buffer_bytes // _REQUESTS // BLOCK_SIZE) * BLOCK_SIZE)
        yield dataclasses.replace(options, max_buffer_bytes=buffer_bytes, request_size=request_size)
