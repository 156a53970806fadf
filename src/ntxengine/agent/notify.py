"""What systemd is told: that we are ready, alive, reloading, stopping (sd_notify).  Nothing, where nobody listens."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)

_NANOSECONDS = 1000
_LONGEST_S = 1.0  # it reads at once, unless the machine is very busy: then a start must not seem to fail


class Notifier:
    """Sends to the socket that the environment names, if it names one.  Never fails."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        told = environment.get("WATCHDOG_USEC", "")
        is_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(told) / 1e6 if is_for_us and told.isascii() and told.isdigit() else 0.0
        """Within how many seconds it wants to hear that we are alive; 0: never."""

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """To be followed by ready()."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // _NANOSECONDS}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Tell a person in one line what there is (`systemctl status`)."""
        self._send(f"STATUS={' '.join(text.split())}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_LONGEST_S)
                sender.sendto(text.encode(), self._address)
        except OSError as exc:
            log.debug("systemd was not told %r: %s", text.partition("=")[0], exc)
