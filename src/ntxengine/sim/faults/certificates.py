"""What is wrong with the certificate that an endpoint shows.

| kind           | the certificate                                                                |
|----------------|--------------------------------------------------------------------------------|
| `expired`      | was good until yesterday                                                       |
| `expires_soon` | is good for ten days more                                                      |
| `not_yet`      | is good from tomorrow on                                                       |
| `other_name`   | is for `*.nutanix.local`, as the one that a Prism Element comes with           |
| `other_ca`     | is signed by an authority that nobody knows                                    |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ntxengine.errors import OptionsError

DEFAULT_NAME = "*.nutanix.local"


@dataclass
class CertificateSpec:
    """What is asked of the authority.  A time of None is the authority's own choice."""

    hosts: list[str]
    not_before: datetime | None = None
    not_after: datetime | None = None
    by_a_stranger: bool = False


Change = Callable[[CertificateSpec], None]

CERTIFICATE_FAULTS: dict[str, Change] = {}


def certificate_fault(name: str) -> Callable[[Change], Change]:
    """Enter a fault into the registry."""

    def enter(change: Change) -> Change:
        CERTIFICATE_FAULTS[name] = change
        return change

    return enter


def check(faults: dict[str, str]) -> None:
    """Raise OptionsError if there is no such fault, or no such endpoint."""
    for endpoint, kind in faults.items():
        if endpoint not in ("central", "element"):
            raise OptionsError(f"simulator: faults.certificates: {endpoint!r} is neither central nor element")
        if kind not in CERTIFICATE_FAULTS:
            known = ", ".join(sorted(CERTIFICATE_FAULTS))
            raise OptionsError(f"simulator: faults.certificates: {kind!r} is not known; known are {known}")


def spec_of(kind: str, hosts: list[str]) -> CertificateSpec:
    """Return what the certificate is; kind "" is a good one."""
    spec = CertificateSpec(hosts)
    if kind:
        CERTIFICATE_FAULTS[kind](spec)
    return spec


@certificate_fault("expired")
def _expired(spec: CertificateSpec) -> None:
    spec.not_before, spec.not_after = _in(days=-30), _in(days=-1)


@certificate_fault("expires_soon")
def _expires_soon(spec: CertificateSpec) -> None:
    spec.not_before, spec.not_after = _in(days=-30), _in(days=10, hours=1)


@certificate_fault("not_yet")
def _not_yet(spec: CertificateSpec) -> None:
    spec.not_before, spec.not_after = _in(days=1), _in(days=30)


@certificate_fault("other_name")
def _other_name(spec: CertificateSpec) -> None:
    spec.hosts = [DEFAULT_NAME]


@certificate_fault("other_ca")
def _other_ca(spec: CertificateSpec) -> None:
    spec.by_a_stranger = True


def _in(*, days: int, hours: int = 0) -> datetime:
    # The clock of this machine, as whoever judges the certificate uses it.
    return datetime.now(UTC) + timedelta(days=days, hours=hours)
