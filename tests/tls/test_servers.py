"""TLS with servers that others wrote: what they store is what was sent, and who is not to be trusted is not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.security import ConnectionOptions, TlsOptions
from ntxengine.errors import NbdNegotiationError, PlaceError
from tests.support.pki import HOSTS, Identity, Pki, make_identity
from tests.support.servers import nbdkit
from tests.tls.servers import certificates, nbdkit_tls, pre_shared, qemu_nbd_tls

SIZE = 20 << 20

OPTIONS = CopyOptions(connections=3, in_flight=4, request_size=256 << 10)


def nbdkit_of(pki: Pki, disk: Path, *, psk: bool) -> AbstractContextManager[int]:
    return nbdkit_tls(pki, "file", str(disk), psk=psk)


def qemu_nbd_of(pki: Pki, disk: Path, *, psk: bool) -> AbstractContextManager[int]:
    return qemu_nbd_tls(pki, disk, psk=psk)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Data, zeros, and data again, to an odd end."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(9 << 20) + bytes(3 << 20) + os.urandom(8 << 20))
    return path


async def copy_named(source: str, target: str, connection: ConnectionOptions) -> None:
    async with (
        open_source(source, timeout_s=20, connection=connection) as device,
        open_target(target, source=device, timeout_s=20, connection=connection) as to,
    ):
        await copy(device, to.device, [whole(device.size)], options=OPTIONS, bytes_expected=device.size)


@pytest.mark.parametrize("psk", [False, True], ids=["x509", "psk"])
@pytest.mark.parametrize("serve", [nbdkit_of, qemu_nbd_of], ids=["nbdkit", "qemu-nbd"])
async def test_disk_that_is_sent_and_fetched_again_is_the_same(
    serve: Callable[..., AbstractContextManager[int]], psk: bool, pki: Pki, source: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xee" * SIZE)
    connection = pre_shared(pki.psk) if psk else certificates(pki)

    with serve(pki, disk, psk=psk) as port:
        await copy_named(str(source), f"nbds://localhost:{port}/", connection)
        await copy_named(f"nbds://127.0.0.1:{port}/", str(tmp_path / "back"), connection)

    assert disk.read_bytes() == source.read_bytes()
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


async def test_unix_socket_is_asked_for_the_name_that_was_given(pki: Pki, source: Path, tmp_path: Path) -> None:
    with nbdkit("--tls=require", f"--tls-certificates={pki.folder}", "file", str(source)) as uri:
        connection = certificates(pki, is_known=False, host_name="localhost")
        await copy_named(uri.replace("nbd+unix", "nbds+unix"), str(tmp_path / "back"), connection)

    assert (tmp_path / "back").read_bytes() == source.read_bytes()


async def refusal(uri: str, connection: ConnectionOptions) -> str:
    with pytest.raises(PlaceError) as caught:
        async with open_source(uri, timeout_s=20, connection=connection):
            pass
    # A server that says nothing may also have died.
    assert isinstance(caught.value, NbdNegotiationError) or "the server closed the connection" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def strangers(pki: Pki) -> Pki:
    """Return what somebody else would have, in a folder of its own."""
    return Pki(pki.folder / "strangers")


EXPECTED: list[tuple[str, Callable[[Pki], Identity], str]] = [
    (
        "expired",
        lambda pki: make_identity("server", by=pki.ca, hosts=HOSTS, days=-1),
        r"certificate expired on 20\d\d-\d\d-\d\d",
    ),
    ("other-ca", lambda pki: make_identity("server", by=strangers(pki).ca, hosts=HOSTS), "no CA that was given"),
    ("self-signed", lambda pki: make_identity("server", hosts=HOSTS), "self-signed"),
    (
        "other-host",
        lambda pki: make_identity("server", by=pki.ca, hosts=("backup.example",)),
        "not for localhost, but for backup.example",
    ),
    ("no-host", lambda pki: make_identity("localhost", by=pki.ca), "names no host"),
]


@pytest.mark.parametrize(("make", "says"), [row[1:] for row in EXPECTED], ids=[row[0] for row in EXPECTED])
async def test_server_that_cannot_prove_itself_is_refused(make: Callable[[Pki], Identity], says: str, pki: Pki) -> None:
    pki.serve_with(make(pki))

    with nbdkit_tls(pki, "null", "1M") as port:
        text = await refusal(f"nbds://localhost:{port}/", certificates(pki))

    assert re.search(says, text)
    assert text.startswith(f"nbds://localhost:{port}/")


async def test_name_that_was_given_counts_and_not_the_host_in_the_uri(pki: Pki) -> None:
    with nbdkit_tls(pki, "null", "1M") as port:
        text = await refusal(f"nbds://localhost:{port}/", certificates(pki, host_name="backup.example"))

    assert "not for backup.example, but for localhost, 127.0.0.1" in text


@pytest.mark.parametrize("serve", [nbdkit_of, qemu_nbd_of], ids=["nbdkit", "qemu-nbd"])
async def test_server_that_wants_to_know_us_is_named_as_the_one_that_refused(
    serve: Callable[..., AbstractContextManager[int]], pki: Pki, source: Path
) -> None:
    other = strangers(pki)
    known_elsewhere = TlsOptions(ca=pki.ca_file, certificate=other.certificate, key=other.key)

    with serve(pki, source, psk=False) as port:
        unknown = await refusal(f"nbds://localhost:{port}/", certificates(pki, is_known=False))
        wrong = await refusal(f"nbds://localhost:{port}/", ConnectionOptions(tls=known_elsewhere))

    assert "the server wants a client certificate, and none was given" in unknown
    assert "our certificate" in wrong


@pytest.mark.parametrize("serve", [nbdkit_of, qemu_nbd_of], ids=["nbdkit", "qemu-nbd"])
async def test_key_that_the_server_does_not_have_is_refused(
    serve: Callable[..., AbstractContextManager[int]], pki: Pki, source: Path
) -> None:
    other = strangers(pki)

    with serve(pki, source, psk=True) as port:
        wrong_key = await refusal(f"nbds://localhost:{port}/", pre_shared(other.psk))
        other.psk.write_text(pki.psk.read_text().replace("alice", "bob"))
        wrong_user = await refusal(f"nbds://localhost:{port}/", pre_shared(other.psk))

    assert "pre-shared key" in wrong_key
    assert "pre-shared key" in wrong_user


async def test_server_without_tls_is_not_used_without(pki: Pki) -> None:
    with nbdkit_tls(pki, "null", "1M", tls="off") as port:
        text = await refusal(f"nbds://localhost:{port}/", certificates(pki))

    assert "TLS is required, and cannot be had" in text


async def test_server_that_requires_tls_is_not_asked_without_and_says_so(pki: Pki) -> None:
    with nbdkit_tls(pki, "null", "1M") as port:
        text = await refusal(f"nbd://localhost:{port}/", ConnectionOptions())

    assert "requires TLS" in text
    assert "nbds://" in text
