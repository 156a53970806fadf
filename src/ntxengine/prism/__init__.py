"""Prism, as far as a capture needs it: one protocol, v4 on a Prism Central and v3/v2 on a Prism Element.

models.py    what Prism tells us, in our words, and the protocol `Prism`: all that use cases see
probe.py     asks a Prism what it can do, and opens the family that fits
http/        HTTPS to one host: session, retries, error bodies, checked answers
v4/  v3/     the two families; neither knows the other
regions.py   pages of changed regions, of either family, to one array
tasks.py     waiting for Prism, and removing what is half done

    connect -> probe -> v4 or v3 -> regions, tasks, models -> http
"""

from __future__ import annotations

from ntxengine.prism.http.endpoint import Endpoint, Secret, check_url, check_username
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
