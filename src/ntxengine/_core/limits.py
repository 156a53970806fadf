"""What a job of the core is told of how much to ask for at once: struct ntx_limits, csrc/ntx.h."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one job, which it keeps to; who copies decides on all of them.

    `connections` and `in_flight` (requests of each) are the most there may be.  A job begins with `first_connections`
    and `first_requests` (of all of them together); 0: with the most, always.  Another connection is used when those in
    use have `depth` requests each; 0: `in_flight`.  `flush_timeout_ms`: 0 is no limit.
    """

    connections: int
    in_flight: int
    first_connections: int = 0
    first_requests: int = 0
    depth: int = 0
    request_size: int
    max_buffer_bytes: int
    timeout_ms: int
    flush_timeout_ms: int = 0
