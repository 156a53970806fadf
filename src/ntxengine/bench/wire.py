"""What the harness and the engine's process say to each other: one JSON object per line, stdin and stdout.

harness  Request  ------------->  engine
         <-------------  Done            here the clock stops
         <-------------  Proof           digests, which are sealed after it
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Request(msgspec.Struct, kw_only=True, frozen=True):
    """Copy every source to its target at the same time, or digest every source, which then is a qcow2 image.

    `options` are those of CopyOptions; `tls_ca` is the CA of targets with TLS, `ssh_*` the files for those behind ssh.
    """

    mode: Literal["copy", "verify"]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    options: dict[str, int | bool]
    tls_ca: str = ""
    ssh_key: str = ""
    ssh_known_hosts: str = ""


class Report(msgspec.Struct, kw_only=True, frozen=True):
    """What one copy said of itself; also what we read of `ntx copy --json` and `ntx checksum --json`."""

    bytes_total: int
    bytes_read: int
    bytes_sent: int
    bytes_zeroed: int
    bytes_skipped: int
    seconds: float
    cpu_seconds: float
    connections: int
    request_size: int
    in_flight: int
    bottleneck: str
    digest: str | None = None


class Done(msgspec.Struct, kw_only=True, frozen=True):
    """The work is done, or `error` says why not.  `cpu_seconds` is of the process, `peak_memory` since it began."""

    error: str = ""
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    reports: tuple[Report, ...] = ()


class Proof(msgspec.Struct, kw_only=True, frozen=True):
    """The digest of each disk, in the order of the request."""

    digests: tuple[str, ...]
