"""Files of keys and certificates: what is wrong with one is said in a line, and no secret is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntxengine.dataplane.location import parse
from ntxengine.dataplane.security import TlsOptions
from ntxengine.dataplane.tls import credentials
from ntxengine.errors import OptionsError
from tests.support.pki import Pki
from tests.support.servers import require_root

SERVER = parse("nbds://server/disk")
SOCKET = parse("nbds+unix:///disk?socket=/run/s")


def refusal(uri: str, options: TlsOptions | None) -> str:
    with pytest.raises(OptionsError) as caught:
        credentials(parse(uri), options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_plain_location_needs_none(pki: Pki) -> None:
    assert credentials(parse("nbd://server/"), TlsOptions(ca=pki.ca_file)) is None
    assert credentials(parse("/dev/sdb"), None) is None


def test_encrypted_location_needs_somebody_to_trust() -> None:
    assert "--tls-ca FILE" in refusal("nbds://server/disk", None)


def test_certificates_and_a_key_of_both_are_taken(pki: Pki) -> None:
    assert credentials(SERVER, TlsOptions(ca=pki.ca_file)) is not None
    assert credentials(SERVER, TlsOptions(ca=pki.ca_file, certificate=pki.certificate, key=pki.key)) is not None
    assert credentials(SERVER, TlsOptions(psk=pki.psk)) is not None
    assert credentials(SOCKET, TlsOptions(psk=pki.psk)) is not None


def test_socket_needs_a_name_for_the_certificate(pki: Pki) -> None:
    assert "--tls-hostname" in refusal(SOCKET.text, TlsOptions(ca=pki.ca_file))

    assert credentials(SOCKET, TlsOptions(ca=pki.ca_file, host_name="server")) is not None


@pytest.mark.parametrize("name", ["", ".", ".example", "a\0b", "a\nb", "\udcff", "x" * 64 + "ü"])
def test_host_name_that_is_none_is_refused(name: str, pki: Pki) -> None:
    assert "no host name" in refusal(SERVER.text, TlsOptions(ca=pki.ca_file, host_name=name))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"certificate": Path("c")}, "needs its key"),
        ({"key": Path("k"), "ca": Path("a")}, "needs its key"),
        ({}, "whom to trust"),
        ({"host_name": "h"}, "whom to trust"),
        ({"psk": Path("p"), "ca": Path("a")}, "stands in for certificates"),
        ({"psk": Path("p"), "host_name": "h"}, "stands in for certificates"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Path], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        TlsOptions(**options)  # type: ignore[arg-type]


def test_missing_file_is_named(pki: Pki, tmp_path: Path) -> None:
    assert refusal(SERVER.text, TlsOptions(ca=tmp_path / "none")) == f"{tmp_path}/none: No such file or directory"
    assert refusal(SERVER.text, TlsOptions(ca=tmp_path)) == f"{tmp_path}: is no regular file"


def test_pipe_is_not_waited_for(pki: Pki, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert "no regular file" in refusal(SERVER.text, TlsOptions(ca=tmp_path / "pipe"))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o622])
def test_key_that_others_can_read_or_change_is_refused(mode: int, pki: Pki) -> None:
    for path in (pki.key, pki.psk):
        path.chmod(mode)

    x509 = refusal(SERVER.text, TlsOptions(ca=pki.ca_file, certificate=pki.certificate, key=pki.key))
    psk = refusal(SERVER.text, TlsOptions(psk=pki.psk))

    assert f"{pki.key}: can be read or changed by others" in x509
    assert f"chmod 06{'4' if os.geteuid() == 0 and mode & 0o040 else '0'}0 {pki.psk}" in psk


def test_ca_that_everybody_can_change_is_refused(pki: Pki) -> None:
    pki.ca_file.chmod(0o666)

    assert "can be changed by others (mode 0666): chmod 0664" in refusal(SERVER.text, TlsOptions(ca=pki.ca_file))


def test_key_of_somebody_else_is_refused(pki: Pki) -> None:
    require_root("to give a file to somebody else")
    os.chown(pki.psk, 12345, 12345)

    assert "belongs to another user (uid 12345)" in refusal(SERVER.text, TlsOptions(psk=pki.psk))


def test_user_of_a_key_is_found_or_asked_for(pki: Pki) -> None:
    line = pki.psk.read_text()
    pki.psk.write_text(f"# keys\n\n{line}{line.replace('alice', 'bob')}")

    assert credentials(parse("nbds://bob@server/disk"), TlsOptions(psk=pki.psk)) is not None
    assert "keys of 2 users: write nbds://USER@HOST" in refusal(SERVER.text, TlsOptions(psk=pki.psk))
    assert "has no key of 'carol'" in refusal("nbds://carol@server/disk", TlsOptions(psk=pki.psk))


@pytest.mark.parametrize(
    "line", ["alice", "alice:", "alice:xyz0", "alice:012", ":0123", "alice: 0123", "a:b:0123", "a\0:0123"]
)
def test_line_that_is_no_key_is_named_by_its_number_alone(line: str, pki: Pki) -> None:
    pki.psk.write_text(f"# keys\n{line}\n")

    text = refusal(SERVER.text, TlsOptions(psk=pki.psk))

    assert text == f"{pki.psk}: line 2 is not USER:KEY, the key in hexadecimal"


def test_short_key_is_refused(pki: Pki) -> None:
    pki.psk.write_text("alice:0123\n")

    text = refusal(SERVER.text, TlsOptions(psk=pki.psk))

    assert text == f"{pki.psk}: TLS: a pre-shared key has 16 to 64 bytes, this one 2"


def test_user_without_a_key_is_refused(pki: Pki) -> None:
    assert "--tls-psk" in refusal("nbds://alice@server/disk", TlsOptions(ca=pki.ca_file))


def test_huge_file_is_not_read(pki: Pki) -> None:
    with open(pki.ca_file, "ab") as file:
        file.truncate(1 << 30)

    assert "none of ours" in refusal(SERVER.text, TlsOptions(ca=pki.ca_file))


def test_secret_is_in_no_representation(pki: Pki) -> None:
    key = pki.psk.read_text().strip().partition(":")[2]
    made = credentials(SERVER, TlsOptions(psk=pki.psk))

    assert key not in repr(made)
    assert key not in repr(TlsOptions(psk=pki.psk))
