"""Find out what a Prism can do by asking it, and open the right family.  Never by a version string alone.

1  POST v3 clusters/list                    reachable, account good, Prism Central or Prism Element
2  OPTIONS /api/<name space>/unversioned/info, then a real v4 list of VMs and of recovery points
3  POST v3 vm_snapshots/list (200) and v3 data/changed_regions {} (422: it is there and wants fields)
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable
from dataclasses import dataclass

import msgspec

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import PrismError, PrismStatusError
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Endpoint
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.retry import Patience
from ntxengine.prism.http.session import Session, tls_context
from ntxengine.prism.models import Family, Prism
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.api import CentralApi, Revisions, server_revision
from ntxengine.prism.v4.central import CentralPrism

_OURS = {"vmm": 1, "dataprotection": 0, "prism": 0}
"""The minor revision of v4 that each name space needs: vmm 4.1 brought hot-add of recovery points."""

_VERSION = re.compile(r"v4\.(\d{1,3})(?:\.([ab])\d{1,3})?")
_ABSENT = frozenset({404, 405, 501})
_SCHEMA_REFUSED = frozenset({400, 422})

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Findings:
    """What the probes found.  `revisions` is None without v4; the two reasons say why a family cannot be used."""

    is_central: bool
    revisions: Revisions | None
    no_v4: str
    no_v3: str


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


async def open_prism(
    endpoint: Endpoint, *, family: Family | None = None, clock: Clock | None = None, patience: Patience | None = None
) -> Prism:
    """Connect, find out what is there, and return the implementation that fits.

    Errors: OptionsError (CA file), PrismConnectionError, CredentialsError, PrismError if it can do neither family.
    """
    tls = await to_thread_joined(tls_context, endpoint.ca_file, insecure=endpoint.insecure)

    def open_session(host: str, *, account: Endpoint | None) -> Session:
        return Session(
            host, endpoint.port, tls, account=account, timeout_s=endpoint.timeout_s, clock=clock, patience=patience
        )

    session = open_session(endpoint.host, account=endpoint)
    try:
        findings = await probe(session, family=family)
        if findings.revisions is not None:
            log.info("Prism %s: v4 through Prism Central (%s)", session.name, findings.revisions)
            return CentralPrism(session, findings.revisions, lambda host: open_session(host, account=None))
        if not findings.no_v3:
            log.info("Prism %s: v3 on a Prism Element", session.name)
            return ElementPrism(session)
        raise PrismError(_neither(session.name, findings, family))
    except BaseException:
        await session.aclose()
        raise


async def probe(session: Session, *, family: Family | None) -> Findings:
    """Ask a Prism what it can do; with a `family`, only about that."""
    is_central = await _is_central(session)
    revisions, no_v4 = None, "not asked for" if family == "v3" else "it is a Prism Element"
    if family == "v4" or (family is None and is_central is not False):
        revisions, no_v4 = await _probe_v4(session)
    no_v3 = "not asked for" if family == "v4" else ""
    if revisions is None and family != "v4":
        no_v3 = await _probe_v3(session)
    return Findings(bool(is_central), revisions, no_v4, no_v3)


async def _is_central(session: Session) -> bool | None:
    """Return whether this is a Prism Central; None if it does not tell us."""
    try:
        answer = await ElementApi(session).list_entities("cluster", 0)
    except PrismStatusError as exc:
        log.debug("clusters cannot be listed: %s", exc)
        return None
    environment = answer.headers.get("x-ntnx-env", "").lower()
    product = one_line(answer.headers.get("x-ntnx-product", "")) or "unnamed"
    log.debug("Prism %s: product %s, environment %s", session.name, product, one_line(environment) or "unnamed")
    if environment in ("pc", "pe"):
        return environment == "pc"
    configs = (
        item.status.resources.config
        for item in answer.decode(_ClusterList).entities or ()
        if item.status is not None and item.status.resources is not None
    )
    return any("PRISM_CENTRAL" in (config.service_list or ()) for config in configs if config is not None)


async def _probe_v4(session: Session) -> tuple[Revisions | None, str]:
    """Return the revisions to speak, or why v4 cannot be spoken here."""
    chosen: dict[str, str] = {}
    for name_space, ours in _OURS.items():
        minor = await _minor(session, name_space)
        if minor is not None and minor < 0:
            return None, f"its {name_space} has no finished v4"
        chosen[name_space] = f"v4.{ours if minor is None else min(ours, minor)}"
    revisions = Revisions(**chosen)
    refused = await _refused(CentralApi(session, revisions).list_vms(0, limit=1))
    if refused and revisions.vmm != "v4.0":
        # A server that does not tell its revision and has not this one: the floor of v4 is left.
        lower = Revisions("v4.0", revisions.dataprotection, revisions.prism)
        if not await _refused(CentralApi(session, lower).list_vms(0, limit=1)):
            revisions, refused = lower, ""
    refused = refused or await _refused(CentralApi(session, revisions).list_recovery_points(0))
    return (None, refused) if refused else (revisions, "")


async def _minor(session: Session, name_space: str) -> int | None:
    """Return the minor revision of v4 that the server has, -1 if none is finished, None if it does not tell."""
    try:
        text = await server_revision(session, name_space)
    except PrismStatusError as exc:
        log.debug("no revision told: %s", exc)
        return None
    match = _VERSION.fullmatch(text)
    if match is None:
        log.debug("Prism %s: %s says revision %s", session.name, name_space, one_line(text))
        return None
    return int(match[1]) - 1 if match[2] else int(match[1])


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


def _neither(name: str, findings: Findings, family: Family | None) -> str:
    if family is not None:
        why = findings.no_v4 if family == "v4" else findings.no_v3
        hint = "a Prism Central speaks v4" if family == "v4" else "a Prism Element speaks v3"
        return f"Prism {name} cannot be used with --api {family}: {why}: {hint}; --api auto asks the server"
    if findings.is_central:
        return (
            f"Prism Central {name} has no v4 that we can use ({findings.no_v4}):"
            " give the address (--prism) and the account (--username) of the Prism Element itself"
        )
    return f"Prism {name} can do neither v4 ({findings.no_v4}) nor v3 snapshots with changed regions ({findings.no_v3})"
