"""The memory that copies which run at the same time share.

A copy bounds its own buffers.  Of a VM with many disks that is not enough: 64 times 32 MiB are 2 GiB.  So what all of
them may have together is divided among as many as run at once.  Fixed shares, not a pool: a copy that waits for memory
which another one holds is a way to deadlock, and a copy reaches its rate with a few requests in flight.
"""

from __future__ import annotations

import dataclasses

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.units import BLOCK_SIZE, MIB

TOTAL_BUFFER_BYTES = 256 * MIB
"""Eight copies with the default options; from nine on they have less each."""


def split_buffers(options: CopyOptions, copies: int) -> CopyOptions:
    """Return the options for each of `copies` that run at once: all their buffers stay within TOTAL_BUFFER_BYTES.

    A copy has at least one buffer, so requests get smaller where one alone would be more than its share.
    """
    buffer_bytes = min(options.max_buffer_bytes, TOTAL_BUFFER_BYTES // max(1, copies))
    whole_blocks = max(1, buffer_bytes // BLOCK_SIZE) * BLOCK_SIZE
    request_size = whole_blocks if options.begin.request_size > whole_blocks else options.request_size
    return dataclasses.replace(options, max_buffer_bytes=buffer_bytes, request_size=request_size)
