"""Certificates and keys for tests, in the files that nbdkit and qemu-nbd look for."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOSTS = ("localhost", "127.0.0.1")


@dataclass
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, certificate: Path, key: Path | None = None) -> None:
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        if key is not None:
            key.touch(mode=0o600)
            key.write_bytes(
                self.key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )


def make_identity(
    name: str, *, by: Identity | None = None, hosts: tuple[str, ...] = (), is_ca: bool = False, days: int = 2
) -> Identity:
    """Return a new certificate, signed by `by` or by itself; with `days` below 0 it has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if is_ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return Identity(builder.sign(by.key if by else key, hashes.SHA256()), key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass
class Pki:
    """A CA, a server and a client in `folder`: ca-cert.pem, server-*.pem, client-*.pem, keys.psk."""

    folder: Path
    ca: Identity = field(default_factory=lambda: make_identity("CA", is_ca=True))

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o700)
        self.ca.write(self.folder / "ca-cert.pem")
        self.serve_with(make_identity("server", by=self.ca, hosts=HOSTS))
        make_identity("client", by=self.ca, hosts=("client",)).write(
            self.folder / "client-cert.pem", self.folder / "client-key.pem"
        )
        self.psk.touch(mode=0o600)
        self.psk.write_text(f"alice:{secrets.token_hex(32)}\n")

    def serve_with(self, server: Identity) -> None:
        server.write(self.folder / "server-cert.pem", self.folder / "server-key.pem")

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca-cert.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "client-cert.pem"

    @property
    def key(self) -> Path:
        return self.folder / "client-key.pem"

    @property
    def psk(self) -> Path:
        return self.folder / "keys.psk"
