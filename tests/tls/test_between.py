"""Somebody on the way: nothing is said without TLS, and nothing that was said before it counts."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.retry import is_lost_connection
from ntxengine.errors import NbdNegotiationError, NtxError, SourceError
from tests.fakes import between
from tests.support.pki import Pki
from tests.tls.servers import certificates, nbdkit_tls

SIZE = 8 << 20

OPTIONS = CopyOptions(connections=1, in_flight=4, request_size=256 << 10)

FLAGS_SIZE = 4
ASKS_FOR_TLS = between.option(between.STARTTLS)
GOODBYE = between.option(2)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(SIZE))
    return path


async def read_through(server: between.Between, pki: Pki, target: Path) -> None:
    connection = certificates(pki, host_name="localhost")
    async with (
        open_source(server.uri, timeout_s=20, connection=connection) as device,
        open_target(str(target), source=device, timeout_s=20) as to,
    ):
        await copy(device, to.device, [whole(device.size)], options=OPTIONS, bytes_expected=device.size)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (between.TakesOptionsAway, "says that it takes no options"),
        (between.SaysNo, "the server does not offer it"),
        (between.SaysYes, "what the server sends is not TLS"),
        (between.AnswersAhead, "a reply to an option that was not sent"),
        (between.AddsBehindYes, "more came behind the acknowledgement"),
    ],
)
async def test_who_takes_tls_away_or_speaks_before_it_gets_nothing(
    kind: type[between.Between], says: str, pki: Pki, disk: Path, tmp_path: Path
) -> None:
    # The server would do without, too: it is the client alone that insists.
    with nbdkit_tls(pki, "file", str(disk), tls="on") as port, kind(tmp_path, port) as server:
        with pytest.raises(NbdNegotiationError, match=says):
            await read_through(server, pki, tmp_path / "target")

    is_tls = kind is between.SaysYes
    assert is_tls or ASKS_FOR_TLS.startswith(server.seen[FLAGS_SIZE:].removesuffix(GOODBYE))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", [between.AsksAhead, between.WantsZeroes])
async def test_what_was_said_before_changes_nothing(
    kind: type[between.Between], pki: Pki, disk: Path, tmp_path: Path
) -> None:
    with nbdkit_tls(pki, "file", str(disk), tls="on") as port, kind(tmp_path, port) as server:
        await read_through(server, pki, tmp_path / "target")

    assert (tmp_path / "target").read_bytes() == disk.read_bytes()


async def test_what_follows_from_a_flag_that_anybody_can_flip_is_not_used(pki: Pki, tmp_path: Path) -> None:
    """Without GO, whether zeros follow is as was said before TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.folder / "server-cert.pem", pki.folder / "server-key.pem")

    with between.KnowsNoGo(tmp_path, context) as server:
        with pytest.raises(NbdNegotiationError, match=r"does not know the export option \(GO\)"):
            await read_through(server, pki, tmp_path / "target")


@pytest.mark.parametrize("after", [3 << 20, (5 << 20) + 4321])
async def test_byte_that_is_changed_on_the_way_ends_the_connection(
    after: int, pki: Pki, disk: Path, tmp_path: Path
) -> None:
    with nbdkit_tls(pki, "file", str(disk)) as port, between.ChangesAByte(tmp_path, port, after) as server:
        with pytest.raises(SourceError, match="a record was changed on the way") as caught:
            await read_through(server, pki, tmp_path / "target")

    assert is_lost_connection(caught.value)
    assert not (tmp_path / "target").exists()


async def test_connection_that_is_cut_off_is_no_end_of_the_disk(pki: Pki, disk: Path, tmp_path: Path) -> None:
    with nbdkit_tls(pki, "file", str(disk)) as port, between.CutsOff(tmp_path, port, 4 << 20) as server:
        with pytest.raises(NtxError, match="closed the connection") as caught:
            await read_through(server, pki, tmp_path / "target")

    assert is_lost_connection(caught.value)
