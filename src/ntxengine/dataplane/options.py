"""How to copy: what a caller may choose, and the limits of the core's job that follow from it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ntxengine._core.device import MAX_IN_FLIGHT, MAX_REQUEST_SIZE
from ntxengine._core.limiter import Limiter
from ntxengine._core.limits import Limits
from ntxengine.dataplane.bandwidth import Bandwidth, Rate
from ntxengine.dataplane.tier import Preset, Tier
from ntxengine.errors import OptionsError
from ntxengine.units import BLOCK_SIZE, MIB

MOST_CONNECTIONS = 8
"""Where nobody says otherwise.  Eight with eight requests each hide a latency of 20 ms at 3 GiB/s."""

FLUSH_TIMEOUT_S = 1800.0
"""A server of 256 GiB that lets 40 % of them be dirty and writes them to a disk at 60 MB/s takes that long.  It is no
loss to wait: progress says so, and a cancel does not."""

_MOST_AT_FIRST = 4
_AT_FIRST_FROM_A_SERVER = 2
"""Connections for each processor.  A server's socket holds a part of one answer (208 KiB of 1 MiB, by the default of
Linux); then it waits for us, and with others it has something else to do (bench/notes/paths.md)."""

_WARM_REQUESTS = 2
_WARM_REQUESTS_OVER_TCP = 1
"""Of one connection at first: what is in flight should still be in the cache when the other end copies it
(bench/notes/paths.md)."""

_DEPTH = 8
"""Requests of one connection before another is used.  Servers (qemu-nbd, nbdkit) work on 16 of one connection at a
time: half of that leaves none of theirs waiting for ours."""

_BUFFERS = 8
"""Requests that must have room in the buffers at least, for a target to get as large ones as it prefers."""

_MAX_TIMEOUT_S = 24 * 3600
_MAX_BYTES = 2**62


@dataclass(frozen=True)
class CopyOptions:
    """How to copy.  Sizes in bytes.

    `bandwidth` is what may be read in a second from the sources of all copies that have these options, or options made
    of them by `dataclasses.replace`, together: bytes, 0 for no limit, or text as of --bandwidth.  A Bandwidth may be
    that of other options too.

    `connections` (threads) and `in_flight` (requests per connection) follow latency and throughput where they are
    None, and stay as they are where they are not.  `begin_in_flight` is requests over all connections at first; where
    that or `request_size` is None, it is as from an SSD; requests are larger where the target prefers that.
    `max_buffer_bytes` bounds the payload of all connections together.  `timeout_s` is the longest wait for any one
    answer, but for the closing flush: that takes as long as the target writes back what it holds, `flush_timeout_s`
    at most.
    """

    connections: int | None = None
    request_size: int | None = None
    in_flight: int | None = None
    begin_in_flight: int | None = None
    max_buffer_bytes: int = 32 * MIB
    bandwidth: Rate | Bandwidth = 0
    timeout_s: float = 60.0
    flush_timeout_s: float = FLUSH_TIMEOUT_S
    target_is_zero: bool = False

    def __post_init__(self) -> None:
        begin = self.begin
        if begin.request_size % BLOCK_SIZE or not BLOCK_SIZE <= begin.request_size <= MAX_REQUEST_SIZE:
            raise OptionsError(
                f"request size {begin.request_size} is not a multiple of 64 KiB, at most {MAX_REQUEST_SIZE // MIB} MiB"
            )
        if begin.begin_in_flight < 1:
            raise OptionsError(f"{begin.begin_in_flight} requests in flight at first are not one at least")
        for limit, count in (("connections", self.connections), ("requests in flight", self.in_flight)):
            if count is not None and count < 1:
                raise OptionsError(f"{limit} {count}: at least one, or None for as many as it takes")
        if not 0 <= self.max_buffer_bytes <= _MAX_BYTES:
            raise OptionsError(f"bytes of buffers {self.max_buffer_bytes} is not from 0 to {_MAX_BYTES}")
        if self.bandwidth != 0 and not isinstance(self.bandwidth, Bandwidth):
            object.__setattr__(self, "bandwidth", Bandwidth(self.bandwidth))  # one, also for options made of these
        for limit, timeout_s in (("time limit", self.timeout_s), ("time limit of the flush", self.flush_timeout_s)):
            if not 0 < timeout_s <= _MAX_TIMEOUT_S:
                raise OptionsError(f"{limit} {timeout_s} s is not above 0 and at most {_MAX_TIMEOUT_S} s")

    @property
    def limiter(self) -> Limiter | None:
        """What the core's job shares with others."""
        return self.bandwidth.limiter if isinstance(self.bandwidth, Bandwidth) else None

    @property
    def memory_limit(self) -> int:
        """How much memory all copies that have this limit may take together, in bytes; 0: no limit."""
        return self.bandwidth.memory.limit if isinstance(self.bandwidth, Bandwidth) else 0

    @asynccontextmanager
    async def reserve(self, name: str, sizes: Sequence[int]) -> AsyncIterator[int]:
        """Have one of `sizes` of the memory that may be taken, as MemoryBudget.reserve has it; without it the first."""
        if not isinstance(self.bandwidth, Bandwidth):
            yield sizes[0]
            return
        async with self.bandwidth.memory.reserve(name, sizes) as granted:
            yield granted

    def keep_bandwidth(self) -> None:
        """Set the rate that the bandwidth has at this time of the day.  Called now and then while something is read."""
        if isinstance(self.bandwidth, Bandwidth):
            self.bandwidth.keep()

    @property
    def begin(self) -> Preset:
        """How it begins."""
        return self._begin_on(Tier.SSD)

    def on(self, tier: Tier | None) -> CopyOptions:
        """Return them for bytes that lie on `tier`: what was chosen stays."""
        if tier is None or tier is Tier.SSD:  # which is what it is where nobody says otherwise
            return self
        begin = self._begin_on(tier)
        return dataclasses.replace(self, begin_in_flight=begin.begin_in_flight, request_size=begin.request_size)

    def into(self, preferred_block: int) -> CopyOptions:
        """Return them for a target that prefers requests of so many bytes, a power of two: what was chosen stays."""
        most = min(preferred_block, self.max_buffer_bytes // _BUFFERS // BLOCK_SIZE * BLOCK_SIZE)
        if self.request_size is not None or most <= self.begin.request_size:
            return self
        return dataclasses.replace(self, request_size=most)

    def _begin_on(self, tier: Tier) -> Preset:
        return Preset(
            tier.value.begin_in_flight if self.begin_in_flight is None else self.begin_in_flight,
            tier.value.request_size if self.request_size is None else self.request_size,
        )

    @property
    def most_connections(self) -> int:
        """As many as there may ever be: what a server has to permit."""
        return self.connections or MOST_CONNECTIONS

    def limits(self, *, from_server: bool, over_tcp: bool) -> Limits:
        """Return what the core's job keeps to: the bounds of connections and requests in flight, and where to begin.

        `from_server`: the source is an NBD server.  `over_tcp`: the target is reached so.
        """
        at_first = len(os.sched_getaffinity(0)) * (_AT_FIRST_FROM_A_SERVER if from_server else 1)
        begin = self.begin
        first = self.connections or min(begin.begin_in_flight, at_first, _MOST_AT_FIRST)
        warm = first * (_WARM_REQUESTS_OVER_TCP if over_tcp else _WARM_REQUESTS)
        return Limits(
            connections=self.most_connections,
            in_flight=self.in_flight or MAX_IN_FLIGHT,
            first_connections=first,
            first_requests=first * self.in_flight if self.in_flight else min(begin.begin_in_flight, warm),
            depth=self.in_flight or _DEPTH,
            request_size=begin.request_size,
            max_buffer_bytes=self.max_buffer_bytes,
            timeout_ms=max(1, int(self.timeout_s * 1000)),
            flush_timeout_ms=max(1, int(self.flush_timeout_s * 1000)),
        )
