"""Find out what a cluster can do by asking its Prisms.  Never by a version string alone.

1  POST v3 clusters/list                    reachable, account good, Prism Central or Prism Element
2  OPTIONS /api/<name space>/unversioned/info, then a real v4 list of VMs and of recovery points
3  POST v3 vm_snapshots/list (200) and v3 data/changed_regions {} (422: it is there and wants fields)

| given                        | asked                                                                       |
|------------------------------|-----------------------------------------------------------------------------|
| a central                    | 1, 2                                                                        |
| an element                   | 1, 3                                                                        |
| one address for both         | 1, then 2 unless it is an element, then 3 unless v4 was found               |
| a central and an element     | 1 and 2 at the central, 3 at the element: v4 wins, the element is a finding |
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable
from dataclasses import dataclass

import msgspec

from ntxengine.errors import PrismError, PrismStatusError
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.session import Session
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v4.api import CentralApi, server_revision

_OURS = {"vmm": 1, "dataprotection": 0, "prism": 0}
"""The minor revision of v4 that each name space needs: vmm 4.1 brought hot-add of recovery points."""

_VERSION = re.compile(r"v4\.(\d{1,3})(?:\.([ab])\d{1,3})?")
_ABSENT = frozenset({404, 405, 501})
_SCHEMA_REFUSED = frozenset({400, 422})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Identity:
    """What a Prism says it is: `is_central` is None if it does not tell."""

    product: str
    is_central: bool | None


@dataclass(frozen=True)
class _V4:
    """The revisions to speak and the server's own words; without `spoken`, `reason` says why v4 is not possible."""

    spoken: Revisions | None
    server: Revisions | None
    reason: str


class _ClusterConfig(msgspec.Struct):
    service_list: list[str] | None = None


class _ClusterResources(msgspec.Struct):
    config: _ClusterConfig | None = None


class _ClusterStatus(msgspec.Struct):
    resources: _ClusterResources | None = None


class _Cluster(msgspec.Struct):
    status: _ClusterStatus | None = None


class _ClusterList(msgspec.Struct):
    entities: list[_Cluster] | None = None


async def probe(central: Session | None, element: Session | None) -> Findings:
    """Ask what can be done; one session for both is an address of which nobody knows what it is.

    Errors: PrismConnectionError, CredentialsError, PrismError if neither family can be used.
    """
    first = central or element
    assert first is not None
    identity = await _identify(first)
    v4 = _V4(None, None, "not asked for" if central is None else "it is a Prism Element")
    if central is not None and (identity.is_central is not False or element is None):
        v4 = await _probe_v4(central)
    no_v3, is_element_usable = "not asked for", None
    if element is not None and (v4.spoken is None or element is not central):
        no_v3 = await _probe_element(element, is_needed=v4.spoken is None)
        is_element_usable = not no_v3
    if v4.spoken is None and no_v3:
        raise PrismError(_neither(central, element, identity, v4.reason, no_v3))
    return Findings(
        family="v3" if v4.spoken is None else "v4",
        product=identity.product,
        is_central=identity.is_central,
        revisions=v4.spoken,
        server_revisions=v4.server,
        no_v4=v4.reason,
        no_v3=no_v3,
        is_element_usable=is_element_usable,
    )


async def _identify(session: Session) -> _Identity:
    """Ask a Prism what it is; an account for v4 alone cannot ask that."""
    if not session.speaks_legacy:
        return _Identity("", None)
    try:
        answer = await ElementApi(session).list_entities("cluster", 0)
    except PrismStatusError as exc:
        log.debug("clusters cannot be listed: %s", exc)
        return _Identity("", None)
    environment = answer.headers.get("x-ntnx-env", "").lower()
    product = one_line(answer.headers.get("x-ntnx-product", ""))
    log.debug(
        "Prism %s: product %s, environment %s", session.name, product or "unnamed", one_line(environment) or "unnamed"
    )
    if environment in ("pc", "pe"):
        return _Identity(product, environment == "pc")
    configs = (
        item.status.resources.config
        for item in answer.decode(_ClusterList).entities or ()
        if item.status is not None and item.status.resources is not None
    )
    is_central = any("PRISM_CENTRAL" in (config.service_list or ()) for config in configs if config is not None)
    return _Identity(product, is_central)


async def _probe_v4(session: Session) -> _V4:
    """Ask which revisions can be spoken, and whether they answer."""
    told: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for name_space, ours in _OURS.items():
        told[name_space] = await _told_revision(session, name_space)
        minor = _minor(told[name_space])
        if minor is not None and minor < 0:
            return _V4(None, None, f"its {name_space} has no finished v4")
        chosen[name_space] = f"v4.{ours if minor is None else min(ours, minor)}"
    spoken = Revisions(**chosen)
    refused = await _refused(CentralApi(session, spoken).list_vms(0, 1))
    if refused and spoken.can_hot_add:
        # A server that does not tell its revision and has not this one: the floor of v4 is left.
        lower = Revisions("v4.0", spoken.dataprotection, spoken.prism)
        if not await _refused(CentralApi(session, lower).list_vms(0, 1)):
            spoken, refused = lower, ""
    refused = refused or await _refused(CentralApi(session, spoken).list_recovery_points(0, 1))
    return _V4(None, None, refused) if refused else _V4(spoken, Revisions(**told), "")


async def _told_revision(session: Session, name_space: str) -> str:
    """Return the highest revision as the server writes it, on one line; "" if it does not tell."""
    try:
        text = await server_revision(session, name_space)
    except PrismStatusError as exc:
        log.debug("no revision told: %s", exc)
        return ""
    log.debug("Prism %s: %s says revision %s", session.name, name_space, one_line(text))
    return one_line(text)


def _minor(revision: str) -> int | None:
    """Return the minor revision of v4, -1 if none is finished, None if this is no revision."""
    match = _VERSION.fullmatch(revision)
    if match is None:
        return None
    return int(match[1]) - 1 if match[2] else int(match[1])


async def _probe_element(session: Session, *, is_needed: bool) -> str:
    """Return why the snapshots of v3 cannot be used at an element; empty if they can."""
    try:
        return await _probe_v3(session)
    except PrismError as exc:
        if is_needed:
            raise
        return str(exc)


async def _probe_v3(session: Session) -> str:
    """Return why the snapshots of v3 cannot be used here; empty if they can."""
    api = ElementApi(session)
    refused = await _refused(api.list_entities("vm_snapshot", 0, length=1))
    if refused:
        return refused
    try:
        await api.changed_regions(None, None, 0)
    except PrismStatusError as exc:
        return "" if exc.status in _SCHEMA_REFUSED else str(exc)
    return ""


async def _refused(asking: Awaitable[object]) -> str:
    """Return why a call is not possible here; empty if it is."""
    try:
        await asking
    except PrismStatusError as exc:
        return str(exc) if exc.status not in _ABSENT else f"{exc} (the call is not there)"
    return ""


def _neither(central: Session | None, element: Session | None, identity: _Identity, no_v4: str, no_v3: str) -> str:
    unusable = "Prism {} cannot be used with --api {}: {}: {}; --api auto asks the server"
    if central is None:
        name = "" if element is None else element.name
        return unusable.format(name, "v3", no_v3, "a Prism Element speaks v3")
    if element is None:
        return unusable.format(central.name, "v4", no_v4, "a Prism Central speaks v4")
    if element is not central:
        return (
            f"Prism Central {central.name} has no v4 that we can use ({no_v4}), and Prism Element {element.name} has"
            f" no v3 snapshots with changed regions ({no_v3})"
        )
    if identity.is_central:
        return (
            f"Prism Central {central.name} has no v4 that we can use ({no_v4}):"
            " give the address (--prism) and the account (--username) of the Prism Element itself"
        )
    return f"Prism {central.name} can do neither v4 ({no_v4}) nor v3 snapshots with changed regions ({no_v3})"
