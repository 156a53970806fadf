"""A certificate authority made at start, and a server certificate for the loopback addresses that we listen on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import trustme

from ntxengine.sim.faults.certificates import CertificateSpec


@dataclass(frozen=True)
class TlsFiles:
    """Where the certificate of the authority and each server's key with its chain are."""

    ca: Path
    servers: tuple[Path, ...]


def make(folder: Path, specs: dict[str, CertificateSpec]) -> TlsFiles:
    """Write a new authority's certificate, and a server key with its chain for each of `specs`, into `folder`.

    The authority's key is never written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _authority()
    ca = folder / "ca.pem"
    servers = []
    for name, spec in specs.items():
        signed_by = _authority() if spec.by_a_stranger else authority
        certificate = signed_by.issue_cert(*spec.hosts, not_before=spec.not_before, not_after=spec.not_after)
        servers.append(folder / f"{name}.pem")
        write_private(servers[-1], certificate.private_key_and_cert_chain_pem.bytes())
    ca.write_bytes(authority.cert_pem.bytes())
    return TlsFiles(ca, tuple(servers))


def _authority() -> trustme.CA:
    return trustme.CA(organization_name="ntxengine simulator")


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only we may read, whatever was there before."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)
