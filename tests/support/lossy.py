"""A network that loses, reorders and duplicates packets.  Not every kernel has netem, so a program passes them on.

    client 10.8.0.1 --> SERVER 10.8.0.2 --> TUN --> LossyLink swaps the two addresses --> TUN --> 10.8.0.1 the server

The same machine is at both ends: what is sent to SERVER comes back as if SERVER had sent it, and so do the answers.
Swapping changes no checksum.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

LISTEN = "10.8.0.1"
"""Where a server has to listen."""

SERVER = "10.8.0.2"
"""What a client has to call it."""

LOSS, REORDER, DUPLICATE = 0.05, 0.05, 0.03
LATER = 30
"""A packet that is late comes at most so many packets later, ..."""
LATEST_S = 0.02
"""... or after so long, if no more come."""

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SYN = 0x02


class LossyLink:
    """Use it in a network namespace of the test (namespace.py).  `lost`, `reordered` and `duplicated` are counts."""

    def __init__(self, seed: int) -> None:
        self.lost = self.reordered = self.duplicated = 0
        self._chance = random.Random(seed)
        self._late: list[tuple[int, float, bytes]] = []  # to come with which packet, or when
        self._passed = 0
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC)
        self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(self._tun, _TUNSETIFF, struct.pack("16sH22x", b"lossy", _IFF_TUN | _IFF_NO_PI))
        for command in (
            f"ip addr add {LISTEN}/24 dev lossy",
            "ip link set lossy up",
            # What is lost at the end of a request is sent again soon: the tests have no time to wait for more.
            f"ip route replace 10.8.0.0/24 dev lossy src {LISTEN} rto_min 10ms quickack 1",
        ):
            subprocess.run(command.split(), check=True)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.eventfd_write(self._wakeup, 1)
        self._thread.join()
        os.close(self._tun)
        os.close(self._wakeup)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._tun, self._wakeup], [], [], LATEST_S / 4 if self._late else None)
            if self._wakeup in ready:
                return
            if self._tun in ready:
                self._meet(os.read(self._tun, 65536))
            self._deliver_late()

    def _meet(self, packet: bytes) -> None:
        """Decide what becomes of a packet."""
        if packet[0] >> 4 != 4:
            return  # what IPv6 asks its neighbours
        packet = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
        flags = packet[(packet[0] & 15) * 4 + 13]
        chance = 1.0 if flags & _SYN else self._chance.random()  # a lost SYN costs a second, and shows nothing
        if chance < LOSS:
            self.lost += 1
            return
        if chance < LOSS + REORDER:
            self.reordered += 1
            self._hold(packet)
            return
        if chance < LOSS + REORDER + DUPLICATE:
            self.duplicated += 1
            self._hold(packet)
        self._pass_on(packet)

    def _hold(self, packet: bytes) -> None:
        self._late.append((self._passed + self._chance.randint(1, LATER), time.monotonic() + LATEST_S, packet))

    def _deliver_late(self) -> None:
        now = time.monotonic()
        due = [each for each in self._late if each[0] <= self._passed or each[1] <= now]
        self._late = [each for each in self._late if each[0] > self._passed and each[1] > now]
        for _, _, packet in due:
            self._pass_on(packet)

    def _pass_on(self, packet: bytes) -> None:
        self._passed += 1
        os.write(self._tun, packet)


def tcp_counters() -> dict[str, int]:
    """Return what TCP has counted in the network namespace of this thread."""
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            kind = names.partition(":")[0]
            if kind in ("Tcp", "TcpExt"):
                found |= dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
    return found
