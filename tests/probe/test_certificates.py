"""A certificate that is wrong is named, with what it is, and with what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.prism import Trust
from ntxengine.prism.http.certificate import read_certificate
from ntxengine.probe import Line
from ntxengine.sim import run_in_thread
from tests.probe.lab import Lab, config_in


@pytest.mark.parametrize(
    ("endpoint", "kind", "key", "status", "says"),
    [
        ("central", "expired", "prism.certificate", "failed", "renew it"),
        ("central", "not_yet", "prism.certificate", "failed", "set the clock"),
        ("central", "other_name", "prism.certificate", "failed", "stands in the certificate"),
        ("central", "other_ca", "prism.certificate", "failed", "--ca-file"),
        ("central", "expires_soon", "prism.certificate", "warning", "renew it"),
        ("element", "expired", "cluster.computing", "failed", "renew it"),
        ("element", "other_name", "cluster.computing", "failed", "--element-name"),
        ("element", "other_ca", "cluster.computing", "failed", "--element-ca-file"),
        ("element", "expires_soon", "cluster.computing", "warning", "renew it"),
    ],
)
async def test_a_certificate_that_is_wrong_is_named(
    endpoint: str, kind: str, key: str, status: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_in(tmp_path / "disks")
    config.faults.certificates[endpoint] = kind
    with run_in_thread(config, tmp_path / "state") as sim:
        lab = Lab(sim, monkeypatch, tmp_path)

        not_ok = await lab.not_ok()

    assert not_ok == {key: status}
    assert says in line_of(lab, key).result.remedy


async def test_the_line_holds_what_a_person_compares(lab: Lab) -> None:
    lab.central(ca_file=None)

    await lab.probe()

    line = line_of(lab, "prism.certificate")
    assert str(line.result.facts["sha256"]) in line.result.remedy
    assert "O=ntxengine simulator" in line.result.text


async def test_a_pinned_certificate_is_good(lab: Lab) -> None:
    await lab.probe()
    pin = str(line_of(lab, "prism.certificate").result.facts["sha256"])
    lab.told.clear()
    trust = Trust(ca_file=str(lab.sim.ca_file))
    lab.central(ca_file=None, fingerprint=pin, elements=trust)

    not_ok = await lab.not_ok()

    assert not_ok == {}


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_torn_certificate_still_has_a_fingerprint(cut: int, lab: Lab) -> None:
    import ssl

    der = ssl.PEM_cert_to_DER_cert(lab.sim.ca_file.read_text())
    torn = der[:cut] + bytes([der[cut] ^ 0xFF]) + der[cut + 1 :]

    found = read_certificate(torn)

    assert len(found.fingerprint) == 64


def test_an_empty_extension_is_a_certificate_that_cannot_be_read() -> None:
    def der(tag: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return bytes([tag, len(content)]) + content

    times = der(0x30, der(0x17, b"260101000000Z"), der(0x17, b"270101000000Z"))
    names = der(0x30, bytes.fromhex("0603551d11"), der(0x04))
    fields = (der(0x02, b"\1"), der(0x30), der(0x30), times, der(0x30), der(0x30), der(0xA3, der(0x30, names)))

    found = read_certificate(der(0x30, der(0x30, *fields)))

    assert len(found.fingerprint) == 64


def line_of(lab: Lab, key: str) -> Line:
    return next(line for line in lab.told if line.key == key)
