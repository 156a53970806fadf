"""Certificates as Prisms have them: each is taken or refused for its own reason, with a remedy that works."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ntxengine import errors
from ntxengine.prism.http.endpoint import Endpoint, Secret, Trust
from ntxengine.prism.http.session import Request, Session, tls_context
from ntxengine.prism.http.trust import check_fingerprint, known_or_remembered, shown
from ntxengine.prism.open import open_cluster
from ntxengine.sim import Simulator
from tests.prism.hostile import PASSWORD, Hostile, hostile_server, reply
from tests.prism.steps import freeze, rows, subject

GET = Request("GET", "/thing")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class SelfSigned:
    """As a Prism Element makes it for itself: one certificate, for `*.nutanix.local`."""

    def __init__(self, name: str = "*.nutanix.local") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(subject_name, subject_name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.pem = made.public_bytes(serialization.Encoding.PEM)
        self._key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.fingerprint = made.fingerprint(hashes.SHA256()).hex()

    def configure_cert(self, context: ssl.SSLContext, folder: Path) -> None:
        path = folder / "self-signed.pem"
        path.write_bytes(self._key + self.pem)
        context.load_cert_chain(path)


class AsIssued:
    """A certificate that stands in for an authority of trustme where a server wants to issue its own."""

    def __init__(self, configure: Any) -> None:
        self._configure = configure

    def issue_cert(self, *_hosts: str) -> AsIssued:
        return self

    def configure_cert(self, context: ssl.SSLContext) -> None:
        self._configure(context)


@contextlib.asynccontextmanager
async def serving(configure: Any) -> AsyncIterator[Hostile]:
    authority: Any = AsIssued(configure)
    async with hostile_server(authority) as server:
        server.on("GET /thing", reply(200, {}))
        yield server


async def ask(server: Hostile, trust: Trust, *, prefix: str = "--element-") -> int:
    tls = tls_context(trust.ca_file, insecure=trust.insecure, fingerprints=trust.fingerprints)
    account = Endpoint("https://pc", "admin", Secret(PASSWORD))
    session = Session("127.0.0.1", server.port, tls, account=account, timeout_s=5, trust=trust, option_prefix=prefix)
    try:
        return (await session.ask(GET)).status
    finally:
        await session.aclose()


async def refusal(server: Hostile, trust: Trust, *, prefix: str = "--element-") -> str:
    """Return what is said of a certificate that is refused, before anything was sent."""
    with pytest.raises(errors.PrismConnectionError) as refused:
        await ask(server, trust, prefix=prefix)
    text = str(refused.value)
    assert not server.asked
    assert text.isprintable()
    assert f"127.0.0.1:{server.port}: its certificate is not trusted" in text
    return text


def pin_in(text: str) -> str:
    """Return the fingerprint that a message tells to pin."""
    found = re.search(r"--(?:element-)?fingerprint ([0-9A-F:]{95})", text)
    assert found is not None, text
    return found[1]


async def test_the_default_certificate_of_an_element_can_be_pinned_as_the_message_says(tmp_path: Path) -> None:
    made = SelfSigned()
    async with serving(lambda context: made.configure_cert(context, tmp_path)) as server:
        text = await refusal(server, Trust())

        assert "self-signed certificate" in text
        assert "--element-ca-file FILE" in text
        assert check_fingerprint(pin_in(text)) == made.fingerprint
        assert await ask(server, Trust(fingerprints=(pin_in(text),))) == 200


async def test_an_element_that_is_named_is_verified_by_that_name(tmp_path: Path) -> None:
    made, ca_file = SelfSigned(), tmp_path / "ca.pem"
    ca_file.write_bytes(made.pem)
    async with serving(lambda context: made.configure_cert(context, tmp_path)) as server:
        text = await refusal(server, Trust(str(ca_file)))

        assert "it is for *.nutanix.local" in text
        assert "--element-name NAME" in text
        assert await ask(server, Trust(str(ca_file), name="cvm.nutanix.local")) == 200
        with pytest.raises(errors.PrismConnectionError, match="certificate is not trusted"):
            await ask(server, Trust(str(ca_file), name="cvm.example.com"))


async def test_a_certificate_for_another_host_says_so(authority: trustme.CA, ca_file: str) -> None:
    async with serving(authority.issue_cert("pc.example.com").configure_cert) as server:
        text = await refusal(server, Trust(ca_file), prefix="--")

        assert "it is for pc.example.com" in text
        assert "use an address that stands in the certificate" in text
        assert await ask(server, Trust(ca_file, fingerprints=(pin_in(text),))) == 200


async def test_a_certificate_that_is_not_trusted_names_the_authority_as_a_remedy(
    authority: trustme.CA, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    async with serving(authority.issue_cert("127.0.0.1").configure_cert) as server:
        text = await refusal(server, Trust(str(other)), prefix="--")

        assert "with --ca-file FILE" in text
        assert "--fingerprint" in text


async def test_an_expired_certificate_can_be_renewed_or_pinned(authority: trustme.CA, ca_file: str) -> None:
    expired = authority.issue_cert("127.0.0.1", not_after=LONG_AGO, not_before=LONG_AGO - timedelta(days=9))
    async with serving(expired.configure_cert) as server:
        text = await refusal(server, Trust(ca_file))

        assert "expired" in text
        assert "renew it on that Prism" in text
        assert await ask(server, Trust(fingerprints=(pin_in(text),))) == 200


async def test_an_address_in_the_certificate_is_all_that_is_needed(authority: trustme.CA, ca_file: str) -> None:
    async with serving(authority.issue_cert("127.0.0.1").configure_cert) as server:
        assert await ask(server, Trust(ca_file)) == 200


async def test_another_certificate_than_the_pinned_one_is_refused_loudly(authority: trustme.CA, ca_file: str) -> None:
    async with serving(authority.issue_cert("127.0.0.1").configure_cert) as server:
        text = await refusal(server, Trust(ca_file, fingerprints=("ab" * 32,)))

        assert "not the one given with --element-fingerprint" in text
        assert "somebody stands in between" in text
        assert await ask(server, Trust(fingerprints=("ab" * 32, pin_in(text)))) == 200


def test_a_file_that_says_whom_to_trust_and_that_anybody_can_change_is_refused(ca_file: str, tmp_path: Path) -> None:
    ca, trusted = tmp_path / "ca.pem", tmp_path / "trusted"
    ca.write_bytes(Path(ca_file).read_bytes())
    trusted.touch()
    for file in (ca, trusted):
        file.chmod(0o666)

    with pytest.raises(errors.OptionsError, match=r"the CA file '.*ca.pem' can be changed by anybody: chmod o-w"):
        tls_context(str(ca), insecure=False)
    with pytest.raises(errors.OptionsError, match=r"trusted' can be changed by anybody"):
        known_or_remembered(trusted, "pc:9440", "ab" * 32)
    assert trusted.read_bytes() == b""


async def test_insecure_trusts_any_certificate(tmp_path: Path) -> None:
    made = SelfSigned()
    async with serving(lambda context: made.configure_cert(context, tmp_path)) as server:
        assert await ask(server, Trust(insecure=True)) == 200


# -- trust on first use


async def test_the_first_certificate_is_remembered_and_a_changed_one_refused(
    sim: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config" / "trusted"
    endpoint = Endpoint(sim.central_url, sim.username, Secret(sim.password), trust_file=str(file))

    async with await open_cluster(endpoint, None) as cluster:
        point = await freeze(cluster.prism, await subject(cluster.prism))
        assert await rows(cluster.prism, point)

    lines = file.read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"127.0.0.1:{sim.port}", f"127.0.0.2:{sim.port}"]
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    told = [record.getMessage() for record in caplog.records if "first use" in record.getMessage()]
    assert len(told) == 2
    assert shown(lines[0].split()[1]) in told[0]
    assert str(file) in told[0]

    file.write_text(file.read_text().replace(lines[0].split()[1], "ab" * 32))
    caplog.clear()
    before = len(sim.requests)
    with pytest.raises(errors.PrismConnectionError, match=r"not the one in .*trusted.*correct its line") as refused:
        await open_cluster(endpoint, None)

    assert str(refused.value).isprintable()
    assert len(sim.requests) == before


def test_a_file_without_a_last_newline_stays_whole(tmp_path: Path) -> None:
    file = tmp_path / "trust"
    file.write_text(f"# by hand\npc:9440 {'ab' * 32}")

    assert known_or_remembered(file, "pe:9440", "cd" * 32) == ("cd" * 32, True)
    assert known_or_remembered(file, "pc:9440", "ef" * 32) == ("ab" * 32, False)
    assert known_or_remembered(file, "pe:9440", "ef" * 32) == ("cd" * 32, False)


def test_a_place_is_remembered_once_and_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "trusted"

    first = known_or_remembered(file, "pc:9440", "ab" * 32)
    again = known_or_remembered(file, "pc:9440", "cd" * 32)
    other = known_or_remembered(file, "pe:9440", "cd" * 32)

    assert (first, again, other) == (("ab" * 32, True), ("ab" * 32, False), ("cd" * 32, True))


@pytest.mark.parametrize(
    "content", [b"pc:9440\n", b"pc:9440 xyz\n", b"\xff\xfe", b"pc:1 " + b"ab" * 32 + b"\npc:1 " + b"cd" * 32 + b"\n"]
)
def test_a_file_that_cannot_be_read_trusts_nobody(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trusted"
    file.write_bytes(content)

    with pytest.raises(errors.OptionsError, match="correct it"):
        known_or_remembered(file, "pe:9440", "ab" * 32)

    assert file.read_bytes() == content


@pytest.mark.parametrize("text", ["AB" * 32, ":".join(["ab"] * 32), "SHA256:" + "ab" * 32, " sha256=" + "ab" * 32])
def test_a_fingerprint_is_read_however_it_is_written(text: str) -> None:
    assert check_fingerprint(text) == "ab" * 32


@pytest.mark.parametrize("text", ["", "ab", "ab" * 20, "zz" * 32, "ab" * 33])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(errors.OptionsError, match="SHA-256 of a certificate"):
        check_fingerprint(text)


@pytest.mark.parametrize("trust", [{"insecure": True, "fingerprints": ("ab" * 32,)}, {"name": "no host"}])
def test_a_trust_that_contradicts_itself_is_refused(trust: dict[str, Any]) -> None:
    with pytest.raises(errors.OptionsError):
        Trust(**trust)


async def test_a_cancelled_handshake_leaves_no_connection() -> None:
    """The server sees the end of it at once, not when the garbage is collected."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        began.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        session = Session("127.0.0.1", port, tls_context(None, insecure=True), account=None, timeout_s=60)
        asking = asyncio.create_task(session.ask(GET))
        await began.wait()

        asking.cancel()
        with pytest.raises(asyncio.CancelledError) as held:
            await asking

        async with asyncio.timeout(30):
            await ended.wait()
        del held
        await session.aclose()


def test_who_trusts_anybody_reads_no_authorities() -> None:
    assert tls_context(None, insecure=True).cert_store_stats()["x509"] == 0
