"""Prism, as far as a capture needs it: protocols, spoken as v4 on a Prism Central or as v3/v2 on a Prism Element.

models.py    what Prism tells us, in our words
cluster.py   what can be asked of a cluster, in parts; `Prism` is all of them; `Cluster` is one that is connected
versions.py  which version of AOS a cluster has, and what is known of it
guest.py     what Prism says of Guest Tools in a VM, and where it is silent
findings.py  what was found out: capabilities, so that nobody outside asks for a family
open.py      opens sessions, has them probed, picks the family that fits
probe.py     asks what a cluster can do
reach.py     how a Prism is reached, as people say it, and the endpoints that this means
place.py     an endpoint, and the sessions that are made for it
inquiry.py   one Prism, asked single questions that change nothing: for `ntx probe`
http/        HTTPS to one host: session, retries, error bodies, checked answers
v4/  v3/     the two families; neither knows the other
pages.py     walking through a list that may change meanwhile; listing.py: what of it can be read
regions.py   pages of changed regions, of either family, to one array
power.py     waiting until a VM runs, or does not
tasks.py     waiting for Prism, and removing what is half done
iscsi.py     names and secrets of iSCSI, checked
kept.py      what only informs: asked once, kept for a while

    connect = open -> probe -> v4 or v3 -> regions, tasks, findings, models -> http
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ntxengine.prism.cluster import (
    ChangedRegions,
    Cluster,
    Facts,
    HotAddDisks,
    Inventory,
    Prism,
    RecoveryPoints,
    VolumeGroups,
)
from ntxengine.prism.findings import Findings
from ntxengine.prism.guest import GuestTools
from ntxengine.prism.http.accounts import ACCOUNTS, check_username
from ntxengine.prism.http.endpoint import Endpoint, Secret, Trust, check_url
from ntxengine.prism.models import (
    AttachedDisk,
    Consistency,
    Container,
    Disk,
    DiskPoint,
    Family,
    Host,
    OddVm,
    RecoveryPoint,
    RegionPage,
    Vm,
    VolumeGroup,
)

if TYPE_CHECKING:
    from ntxengine.prism.http.session import Transport

__all__ = [
    "ACCOUNTS",
    "AttachedDisk",
    "ChangedRegions",
    "Cluster",
    "Consistency",
    "Container",
    "Disk",
    "DiskPoint",
    "Endpoint",
    "Facts",
    "Family",
    "Findings",
    "GuestTools",
    "Host",
    "HotAddDisks",
    "Inventory",
    "OddVm",
    "Prism",
    "RecoveryPoint",
    "RecoveryPoints",
    "RegionPage",
    "Secret",
    "Trust",
    "Vm",
    "VolumeGroup",
    "VolumeGroups",
    "check_url",
    "check_username",
    "connect",
]


async def connect(
    central: Endpoint | None = None, element: Endpoint | None = None, *, transport: Transport | None = None
) -> Cluster:
    """Connect to a cluster through its Prism Central, its Prism Element, or both, and find out what it can do.

    v4 is spoken if there is a Prism Central that can, else v3 if there is a Prism Element that can.  Give an endpoint
    of which you do not know what it is as both.  `transport` is what requests go through instead of the network.
    Errors: OptionsError (no endpoint, CA file), PrismConnectionError, CredentialsError, PrismError if neither can.
    """
    # Here and not above: importing httpx costs more than all of `ntx --help` may take.
    from ntxengine.prism.open import open_cluster

    return await open_cluster(central, element, transport=transport)
