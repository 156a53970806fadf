"""Prism, as far as a capture needs it: one protocol (models.Prism), v4 on Prism Central and v3/v2 on a Prism Element.

connect ── probe ──┬── v4 CentralPrism ── v4_api ──┐
                   └── v3 ElementPrism ── v3_api ──┴── http.Session (the only user of httpx)
"""

from __future__ import annotations

from ntxengine.prism.endpoint import Endpoint, Secret, check_url, check_username
from ntxengine.prism.models import (
    AttachedDisk,
    Consistency,
    Disk,
    DiskPoint,
    Family,
    GuestTools,
    Prism,
    RecoveryPoint,
    RegionPage,
    Vm,
)

__all__ = [
    "AttachedDisk",
    "Consistency",
    "Disk",
    "DiskPoint",
    "Endpoint",
    "Family",
    "GuestTools",
    "Prism",
    "RecoveryPoint",
    "RegionPage",
    "Secret",
    "Vm",
    "check_url",
    "check_username",
    "connect",
]


async def connect(endpoint: Endpoint, *, family: Family | None = None) -> Prism:
    """Connect to a Prism, ask what it can do, and return v4 or v3 by what is really there; `family` forces one.

    Errors: OptionsError (CA file), PrismConnectionError, CredentialsError, PrismError if it can do neither.
    """
    # Here and not above: importing httpx costs more than all of `ntx --help` may take.
    from ntxengine.prism.probe import open_prism

    return await open_prism(endpoint, family=family)
