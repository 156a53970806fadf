"""This machine, as far as a probe looks at it: names, routes, programs, what it is."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ntxengine.concurrency.names import addresses_of
from ntxengine.ids import is_uuid

NAME_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 5.0
MAX_ADDRESSES = 4
_DMI = Path("/sys/class/dmi/id")

Answer = Literal["open", "closed", "silent"]


@dataclass(frozen=True)
class Route:
    """What came of a connection: `closed` is a no at once, `silent` is none at all: a firewall, or nobody there.

    `source` is the address of this machine that it went from, "" if there is no route.
    """

    answer: Answer
    seconds: float
    source: str = ""
    cause: str = ""


class Machine:
    """The real one; a test has its own."""

    async def addresses(self, host: str) -> list[str]:
        """Return the addresses that a name stands for.  Errors: OSError, TimeoutError."""
        return (await addresses_of(host, NAME_TIMEOUT_S))[:MAX_ADDRESSES]

    async def connect(self, address: str, port: int) -> Route:
        """Connect, and hang up at once."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            return Route("silent", loop.time() - began, cause=f"no answer within {CONNECT_TIMEOUT_S:g} s")
        except ConnectionRefusedError:
            return Route("closed", loop.time() - began, cause="connection refused")
        except ValueError:  # a name that cannot be one
            return Route("silent", loop.time() - began, cause="no address of a host")
        except OSError as exc:
            cause = os.strerror(exc.errno) if exc.errno else "no connection"
            return Route("silent", loop.time() - began, cause=cause.lower())
        source = str(writer.get_extra_info("sockname")[0])
        writer.transport.abort()
        return Route("open", loop.time() - began, source)

    def program(self, name: str) -> str | None:
        """Return where a program is."""
        return shutil.which(name)

    def vm_id(self) -> str:
        """Return the UUID that this machine has as a VM of AHV, "" if it is none, or we may not see it."""
        try:
            vendor = (_DMI / "sys_vendor").read_text().strip()
            found = (_DMI / "product_uuid").read_text().strip().lower()
        except (OSError, UnicodeDecodeError):
            return ""
        return found if vendor == "Nutanix" and is_uuid(found) else ""
