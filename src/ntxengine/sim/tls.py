"""A certificate authority made at start, and a server certificate for the loopback addresses that we listen on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class TlsFiles:
    """Where the certificate of the authority and the server's key with its chain are."""

    ca: Path
    server: Path


def make(folder: Path, hosts: list[str]) -> TlsFiles:
    """Write a new authority's certificate and a server key with its chain for `hosts` into `folder`.

    The authority's key is never written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = TlsFiles(folder / "ca.pem", folder / "server.pem")
    authority = trustme.CA(organization_name="ntxengine simulator")
    certificate = authority.issue_cert(*hosts)
    write_private(files.server, certificate.private_key_and_cert_chain_pem.bytes())
    files.ca.write_bytes(authority.cert_pem.bytes())
    return files


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only we may read, whatever was there before."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)
