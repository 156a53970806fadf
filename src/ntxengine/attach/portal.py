"""Where a cluster offers iSCSI: its data services address, and whether anybody answers there.

one login, as for discovery  -->  an answer, whatever it says: iSCSI is spoken there
"""

from __future__ import annotations

import asyncio
import os
import re
import struct
from contextlib import suppress
from dataclasses import dataclass

from ntxengine.concurrency.names import addresses_of
from ntxengine.errors import OptionsError

PORT = 3260
LOOK_TIMEOUT_S = 10.0

_TEXT = re.compile(r"(?P<host>[^\s:/@\[\]]+|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?")
_LOGIN, LOGIN_ANSWER = 0x43, 0x23  # immediate; RFC 7143, 11.12 and 11.13
_TO_OPERATIONAL = 0x81  # transit, from security negotiation (0) to the operational one (1)
HEADER_SIZE = 48
_IS_IT_THAT = "is that the data services address (--data-services)?"


@dataclass(frozen=True)
class Portal:
    """An address of an iSCSI target."""

    host: str
    port: int = PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_portal(text: str, option: str) -> Portal:
    """Return what `HOST[:PORT]` means.  Errors: OptionsError that names the option."""
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    found = _TEXT.fullmatch(bare)
    port = int(found["port"] or PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise OptionsError(f"{option}: {text[:80]!r} is not HOST or HOST:PORT")
    return Portal(found["v6"] or found["host"], port)


async def portal_problem(portal: Portal, initiator: str, *, timeout_s: float = LOOK_TIMEOUT_S) -> str:
    """Return why iSCSI cannot be spoken with the portal from here, "" if it can."""
    unknown = f"looking up {portal.host} failed"
    try:
        addresses = await addresses_of(portal.host, timeout_s)
    except TimeoutError:
        return f"{unknown}: no answer in {timeout_s:g} s; does the resolver of this machine work?"
    except OSError as error:
        return f"{unknown}: {error.strerror}; {_IS_IT_THAT}"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connected(addresses, portal.port)
    except TimeoutError:
        return f"no answer from {portal} in {timeout_s:g} s: let TCP {portal.port} through from here"
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
        return f"no connection to {portal}: {reason}; is its port open, and {_IS_IT_THAT}"
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(login_request(discovery_keys(initiator)))
            answer = await reader.readexactly(HEADER_SIZE)
    except TimeoutError:
        return f"{portal} takes the connection and says nothing for {timeout_s:g} s; {_IS_IT_THAT}"
    except (OSError, asyncio.IncompleteReadError):
        return ""  # as some do that have no target for us yet
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return "" if answer[0] & 0x3F == LOGIN_ANSWER else f"{portal} does not speak iSCSI; {_IS_IT_THAT}"


async def _connected(addresses: list[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first of them that takes the connection.  Errors: OSError, that of the last."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return await asyncio.open_connection(address, port)
    return await asyncio.open_connection(addresses[-1], port)


def discovery_keys(initiator: str) -> str:
    """Return what is said to look at targets, none of which is asked for."""
    return f"InitiatorName={initiator}\0SessionType=Discovery\0AuthMethod=None,CHAP\0"


def login_request(keys: str) -> bytes:
    """Return the first request of a login; `keys` as RFC 7143 has them, each with a zero behind it."""
    text = keys.encode()
    session = b"\x80\0\0\0\0\x01"  # ISID: of a random kind, which no other session of this name is at the time
    header = struct.pack(">BBBBI6sHI", _LOGIN, _TO_OPERATIONAL, 0, 0, len(text), session, 0, 1)
    return header.ljust(HEADER_SIZE, b"\0") + text.ljust(-(-len(text) // 4) * 4, b"\0")
