"""`nbds://` on the command line: encrypted or not at all, and every mistake is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.ntx import assert_refused, ntx
from tests.support.pki import Pki
from tests.tls.servers import nbdkit_tls


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


def options(pki: Pki) -> list[str]:
    return ["--tls-ca", str(pki.ca_file), "--tls-cert", str(pki.certificate), "--tls-key", str(pki.key)]


def test_disk_is_copied_and_verified_by_certificates(pki: Pki) -> None:
    with nbdkit_tls(pki, "memory", "4M") as port:
        ran = ntx("copy", "pattern:4M", f"nbds://localhost:{port}/", "--verify", "--json", *options(pki))
        digest = ntx("checksum", f"nbds://localhost:{port}/", "--json", *options(pki))
        info = ntx("info", f"nbds://localhost:{port}/", "--json", *options(pki))
        extents = ntx("map", f"nbds://localhost:{port}/", "--json", *options(pki))

    assert (ran.code, ran.json["verified"]) == (0, True), ran.err
    assert digest.json["digest"] == ran.json["digest"]
    assert info.json["name"] == f"nbds://localhost:{port}/"
    assert extents.code == 0


def test_pre_shared_key_comes_from_a_variable_too_and_is_shown_nowhere(pki: Pki) -> None:
    key = pki.psk.read_text().strip().partition(":")[2]

    with nbdkit_tls(pki, "memory", "1M", psk=True) as port:
        ran = ntx("copy", "pattern:1M", f"nbds://alice@localhost:{port}/", "--debug", env={"NTX_TLS_PSK": str(pki.psk)})

    assert ran.code == 0, ran.err
    assert key not in ran.out + ran.err


def test_variable_does_not_stand_in_the_way_of_what_needs_none(pki: Pki) -> None:
    assert ntx("copy", "pattern:1M", "null:", env={"NTX_TLS_CA": str(pki.ca_file)}).code == 0


@pytest.mark.parametrize("target", ["null:", "nbd://localhost:1/", "disk.raw"])
def test_option_that_would_encrypt_nothing_is_refused(target: str, pki: Pki, tmp_path: Path) -> None:
    ran = ntx("copy", "pattern:1M", target, "--tls-ca", str(pki.ca_file), cwd=tmp_path)

    assert_refused(ran, 2, "--tls-ca: nothing here is encrypted")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "--tls-ca FILE"),
        (["--tls-ca", "none.pem"], "none.pem: No such file or directory"),
        (["--tls-hostname", "x"], "whom to trust is not said"),
        (["--tls-ca", "pki/ca-cert.pem", "--tls-cert", "pki/client-cert.pem"], "--tls-key"),
        (["--tls-ca", "pki/ca-cert.pem", "--tls-psk", "pki/keys.psk"], "stands in for certificates"),
        (["--tls-ca", "pki/client-key.pem"], "pki/client-key.pem: holds no certificate in PEM"),
    ],
)
def test_what_lacks_is_said_before_anybody_is_asked(given: list[str], says: str, pki: Pki, tmp_path: Path) -> None:
    ran = ntx("copy", "pattern:1M", "nbds://localhost:1/", *given, cwd=tmp_path)

    assert_refused(ran, 2, says)


def test_server_that_is_not_trusted_is_one_line(pki: Pki) -> None:
    stranger = Pki(pki.folder / "stranger")

    with nbdkit_tls(pki, "memory", "1M") as port:
        ran = ntx("copy", "pattern:1M", f"nbds://localhost:{port}/", "--tls-ca", str(stranger.ca_file))

    assert_refused(ran, 1, "no CA that was given has signed the server's certificate")


def test_key_that_others_can_read_is_one_line(pki: Pki) -> None:
    pki.key.chmod(0o644)

    ran = ntx("copy", "pattern:1M", "nbds://localhost:1/", *options(pki))

    assert_refused(ran, 2, "can be read or changed by others (mode 0644)")
