"""Real NBD servers that speak TLS, over TCP: host names are looked for in certificates."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ntxengine.dataplane.security import ConnectionOptions, TlsOptions
from tests.support.pki import Pki
from tests.support.ports import reserved_port
from tests.support.servers import START_S, require


def certificates(pki: Pki, *, is_known: bool = True, host_name: str | None = None) -> ConnectionOptions:
    """Trust the CA, and be known by a certificate."""
    return ConnectionOptions(
        tls=TlsOptions(
            ca=pki.ca_file,
            certificate=pki.certificate if is_known else None,
            key=pki.key if is_known else None,
            host_name=host_name,
        )
    )


def pre_shared(psk: Path) -> ConnectionOptions:
    return ConnectionOptions(tls=TlsOptions(psk=psk))


@contextlib.contextmanager
def _serving(command: list[str], port: int, log: Path, host: str = "127.0.0.1") -> Iterator[None]:
    require(command[0])
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command} does not serve: {log.read_text()}")
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def nbdkit_tls(
    pki: Pki, *plugin: str, psk: bool = False, tls: str = "require", host: str = "127.0.0.1"
) -> Iterator[int]:
    """Serve with nbdkit; yields the port.  With `tls` "off" in the clear."""
    how = [f"--tls-psk={pki.psk}"] if psk else [f"--tls-certificates={pki.folder}", "--tls-verify-peer"]
    with reserved_port() as port:
        command = ["nbdkit", "-f", "-i", host, "-p", str(port), f"--tls={tls}", *(how if tls != "off" else []), *plugin]
        with _serving(command, port, pki.folder / f"{port}.log", host):
            yield port


@contextlib.contextmanager
def qemu_nbd_tls(pki: Pki, disk: Path, *, psk: bool = False) -> Iterator[int]:
    """Serve a raw disk with qemu-nbd; yields the port."""
    kind = "tls-creds-psk" if psk else "tls-creds-x509,verify-peer=on"
    credentials = f"{kind},id=t0,endpoint=server,dir={pki.folder}"
    command = ["qemu-nbd", "--object", credentials, "--tls-creds", "t0", "-t", "-f", "raw", "-e", "8"]
    with reserved_port() as port:
        whole = [*command, "-b", "127.0.0.1", "-p", str(port), str(disk)]
        with _serving(whole, port, pki.folder / f"{port}.log"):
            yield port
