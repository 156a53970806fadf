"""Copies over TCP that loses, reorders and duplicates packets: what is sent and what is read back is right to the byte.

Memory that is sent by reference is read again for each packet that is sent again, so what changed too early would
arrive.  A few copies in `make test`; `make soak` sets NTX_LOSSY_COPIES for fifty of each way.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ntx import COMMAND, environment
from tests.support.lossy import LISTEN, SERVER, LossyLink, tcp_counters
from tests.support.namespace import own_network
from tests.support.pki import Pki
from tests.support.seccomp import VMSPLICE, denying
from tests.tls.servers import nbdkit_tls

SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
COPIES = int(os.environ.get("NTX_LOSSY_COPIES", "5"))
SIZE = ((8 if COPIES > 5 else 1) << 20) + 512  # with more, over two connections
WAYS = ("by reference", "by copy", "TLS")


@pytest.fixture
def link(copy: int) -> Iterator[LossyLink]:
    with own_network(), LossyLink(SEED + copy) as link:
        yield link


def make_source(path: Path, seed: int) -> Path:
    """Data that differ everywhere, and some zeros."""
    chance = random.Random(seed)
    path.write_bytes(chance.randbytes(SIZE // 2) + bytes(100_000) + chance.randbytes(SIZE - SIZE // 2 - 100_000))
    return path


@pytest.mark.parametrize("copy", range(COPIES), ids=lambda copy: f"{copy} {WAYS[copy % len(WAYS)]}")
def test_lost_and_late_packets_cost_no_byte(copy: int, link: LossyLink, tmp_path: Path) -> None:
    way, pki = WAYS[copy % len(WAYS)], Pki(tmp_path / "pki")
    source, disk = make_source(tmp_path / "source", SEED + copy), tmp_path / "disk"
    disk.write_bytes(b"\xee" * SIZE)
    tls = ["--tls-ca", str(pki.ca_file), "--tls-cert", str(pki.certificate), "--tls-key", str(pki.key)]
    before = tcp_counters()

    with nbdkit_tls(pki, "file", str(disk), tls="require" if way == "TLS" else "off", host=LISTEN) as port:
        uri = f"{'nbds' if way == 'TLS' else 'nbd'}://{SERVER}:{port}/"
        done = subprocess.run(
            [*COMMAND, "copy", str(source), uri, "--verify", "--request-size", "64K", "--progress", "none"]
            + ([*tls, "--tls-hostname", "localhost"] if way == "TLS" else []),
            env=environment(),
            preexec_fn=denying(VMSPLICE, errno.EPERM) if way == "by copy" else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    subprocess.run(["cmp", source, disk], check=True)
    assert min(link.lost, link.reordered, link.duplicated) > 10
    counted = {name: count - before[name] for name, count in tcp_counters().items()}
    assert counted["RetransSegs"] > 10
    assert counted["TCPOFOQueue"] > 10  # what came before its turn
    assert counted["TCPDSACKOldSent"] > 10  # what came again
