"""Find out what a cluster can do by asking its Prisms.  Never by a version string alone.

1  POST v3 clusters/list                    reachable, account good, Prism Central or Prism Element
2  OPTIONS /api/<name space>/unversioned/info, then a real v4 list of VMs and of recovery points; of volume groups, too,
   without which the rest can be used all the same
3  POST v3 vm_snapshots/list (200) and v3 data/changed_regions {} (422: it is there and wants fields)

| given                        | asked                                                                       |
|------------------------------|-----------------------------------------------------------------------------|
| a central                    | 1, 2                                                                        |
| an element                   | 1, 3                                                                        |
| one address for both         | 1, then 2 unless it is an element, then 3 unless v4 was found               |
| a central and an element     | 1 and 2 at the central, 3 at the element: v4 wins, the element is a finding |
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

import msgspec

from ntxengine.errors import PrismBusy, PrismError, PrismStatusError
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.session import Answer, Session
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v4.api import CentralApi, server_revision
from ntxengine.prism.v4.volumes_api import VolumesApi

NEEDED = ("vmm", "dataprotection", "prism")
"""The name spaces of v4 without which nothing can be captured."""
_OURS = dict.fromkeys((*NEEDED, "volumes"), 0) | {"vmm": 1}
"""The minor revision of v4 that each name space needs: vmm 4.1 brought hot-add of recovery points."""

_VERSION = re.compile(r"v4\.(\d{1,3})(?:\.([ab])\d{1,3})?")
ABSENT = frozenset({404, 405, 501})
_SCHEMA_REFUSED = frozenset({400, 422})
_FORBIDDEN, _BUSY, _SERVER_ERROR = 403, 429, 500
_VOLUMES_TIMEOUT_S = 10.0
_NEWEST = 9
"""No more revisions than this are tried upward."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What a Prism says it is: `is_central` is None if it does not tell."""

    product: str
    is_central: bool | None


@dataclass(frozen=True)
class _No:
    """Why a family cannot be spoken; `status` is that of the answer that says so, 0 if none does."""

    text: str
    status: int = 0

    @property
    def is_absent(self) -> bool:
        """The call is not there at all, so that another revision may have it."""
        return self.status in ABSENT

    @property
    def is_failure(self) -> bool:
        """The server failed, or was busy: that says nothing of what it can do."""
        return self.status == _BUSY or (self.status >= _SERVER_ERROR and not self.is_absent)


@dataclass(frozen=True)
class _V4:
    """The revisions to speak and the server's own words; without `spoken`, `no` says why v4 is not possible.

    `no_volumes` says why there are no volume groups.
    """

    spoken: Revisions | None
    server: Revisions | None
    no: _No | None
    no_volumes: str = ""


class _ClusterConfig(msgspec.Struct):
    service_list: list[str] | None = None


class _ClusterResources(msgspec.Struct):
    config: _ClusterConfig | None = None


class _ClusterStatus(msgspec.Struct):
    resources: _ClusterResources | None = None


class _Cluster(msgspec.Struct):
    status: _ClusterStatus | None = None

    @property
    def services(self) -> list[str]:
        resources = self.status.resources if self.status is not None else None
        return (resources.config.service_list or []) if resources is not None and resources.config is not None else []


class _ClusterList(msgspec.Struct):
    entities: list[_Cluster] | None = None


async def probe(central: Session | None, element: Session | None) -> Findings:
    """Ask what can be done; one session for both is an address of which nobody knows what it is.

    Errors: PrismConnectionError, CredentialsError, PrismError if neither family can be used.
    """
    first = central or element
    assert first is not None
    identity = await _identify(first)
    v4 = _V4(None, None, _No("not asked for" if central is None else "it is a Prism Element"))
    if central is not None and (identity.is_central is not False or element is None):
        v4 = await _probe_v4(central)
        if v4.no is not None and v4.no.is_failure and (identity.is_central or element is not central):
            # It may have v4: to go on with v3 because of one failure would lose the references of all points.
            raise _no_family(central, None, identity, v4.no, v4.no)
    no_v3: _No | None = _No("not asked for")
    is_element_usable = None
    if element is not None and (v4.spoken is None or element is not central):
        no_v3 = await _probe_element(element, is_needed=v4.spoken is None)
        is_element_usable = no_v3 is None
    if v4.spoken is None and v4.no is not None and no_v3 is not None:
        raise _no_family(central, element, identity, v4.no, no_v3)
    return Findings(
        family="v3" if v4.spoken is None else "v4",
        product=identity.product,
        is_central=identity.is_central,
        revisions=v4.spoken,
        server_revisions=v4.server,
        no_v4="" if v4.no is None else v4.no.text,
        no_v3="" if no_v3 is None else no_v3.text,
        no_volumes=v4.no_volumes,
        is_element_usable=is_element_usable,
    )


async def _identify(session: Session) -> Identity:
    """Ask a Prism what it is; an account for v4 alone cannot ask that."""
    if not session.speaks_legacy:
        return Identity("", None)
    try:
        answer = await ElementApi(session).list_entities("cluster", 0)
    except PrismStatusError as exc:
        log.debug("clusters cannot be listed: %s", exc)
        return Identity("", None)
    found = identity_of(answer)
    log.debug("Prism %s: product %s, Prism Central: %s", session.name, found.product or "unnamed", found.is_central)
    return found


def identity_of(answer: Answer) -> Identity:
    """Return what the list of clusters says of the Prism that gave it."""
    environment = answer.headers.get("x-ntnx-env", "").lower()
    product = one_line(answer.headers.get("x-ntnx-product", ""))
    if environment in ("pc", "pe"):
        return Identity(product, environment == "pc")
    services = [name for item in answer.decode(_ClusterList).entities or () for name in item.services]
    return Identity(product, "PRISM_CENTRAL" in services if services else None)


async def _probe_v4(session: Session) -> _V4:
    """Ask which revisions can be spoken, and whether they answer."""
    told: dict[str, str] = {}
    for name_space in NEEDED:
        told[name_space] = await told_revision(session, name_space)
        if (_minor(told[name_space]) or 0) < 0:
            return _V4(None, None, _No(f"its {name_space} has no finished v4"))
    first = {name_space: candidates(name_space, text)[0] for name_space, text in told.items()}

    def ask(name_space: str, revision: str) -> Awaitable[object]:
        api = CentralApi(session, Revisions(**{**first, name_space: revision}))
        return api.list_vms(0, limit=1) if name_space == "vmm" else api.list_recovery_points(0, limit=1)

    spoken = dict(first)
    for name_space in ("vmm", "dataprotection"):
        found = await _first_spoken(candidates(name_space, told[name_space]), partial(ask, name_space))
        if isinstance(found, _No):
            return _V4(None, None, found)
        spoken[name_space] = found
    told["volumes"], spoken["volumes"], no_volumes = await _probe_volumes(session)
    return _V4(Revisions(**spoken), Revisions(**told), None, no_volumes)


async def _first_spoken(revisions: Iterable[str], ask: Callable[[str], Awaitable[object]]) -> str | _No:
    """Return the first of these revisions that answers, or why none does."""
    refused = None
    for revision in revisions:
        found = await _refused(ask(revision))
        if found is None:
            return revision
        refused = found if refused is None or not found.is_absent else refused
        if not found.is_absent:
            break
    assert refused is not None
    return refused


async def _probe_volumes(session: Session) -> tuple[str, str, str]:
    """Return the revision of volume groups that the server tells, the one to speak, and why there is none.

    They are one way to read among several: what goes wrong here ends nothing, and is not waited for.
    """
    told = ""
    try:
        async with asyncio.timeout(_VOLUMES_TIMEOUT_S):
            told = await told_revision(session, "volumes")
            if (_minor(told) or 0) < 0:
                return told, "", "its name space volumes has no finished v4"
            found = await _first_spoken(
                candidates("volumes", told),
                lambda revision: VolumesApi(session, revision).list_volume_groups(0, limit=1),
            )
    except TimeoutError:
        return told, "", f"volume groups could not be asked for within {_VOLUMES_TIMEOUT_S:g} s: try again later"
    except PrismError as exc:
        return told, "", f"volume groups could not be asked for: {exc}"
    return (told, "", f"volume groups cannot be used: {found.text}") if isinstance(found, _No) else (told, found, "")


def candidates(name_space: str, told: str) -> list[str]:
    """Return the revisions to try, the best first: ours or the server's, then older ones, then newer ones.

    A call may be gone from an old revision, and a server need not have the one that it says.
    """
    ours, highest = _OURS.get(name_space, 0), _minor(told)
    best = ours if highest is None else min(ours, highest)
    newer = range(best + 1, (min(highest, _NEWEST) if highest is not None else best) + 1)
    return [f"v4.{minor}" for minor in (*range(best, -1, -1), *newer)]


async def told_revision(session: Session, name_space: str) -> str:
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


async def _probe_element(session: Session, *, is_needed: bool) -> _No | None:
    """Return why the snapshots of v3 cannot be used at an element; None if they can."""
    try:
        return await _probe_v3(session)
    except PrismError as exc:
        if is_needed:
            raise
        return _No(str(exc))


async def _probe_v3(session: Session) -> _No | None:
    """Return why the snapshots of v3 cannot be used here; None if they can."""
    api = ElementApi(session)
    if refused := await _refused(api.list_entities("vm_snapshot", 0, length=1)):
        return refused
    refused = await _refused(api.changed_regions(None, None, 0))
    return None if refused is None or refused.status in _SCHEMA_REFUSED else refused


async def _refused(asking: Awaitable[object]) -> _No | None:
    """Return why a call is not possible here; None if it is."""
    try:
        await asking
    except PrismStatusError as exc:
        text = str(exc) if exc.status not in ABSENT else f"{exc} (the call is not there)"
        return _No(text, exc.status)
    return None


def _no_family(
    central: Session | None, element: Session | None, identity: Identity, no_v4: _No, no_v3: _No
) -> PrismError:
    """Return what to raise where neither family can be used: what failed may work later, the rest needs a person."""
    asked = [(no, session) for no, session in ((no_v4, central), (no_v3, element)) if session is not None]
    if central is element and identity.is_central:
        asked = asked[:1]  # a Prism Central has no snapshots of v3, however it says so
    if failed := [(no, session) for no, session in asked if no.is_failure]:
        reasons = "; ".join(f"Prism {session.name} could not be asked what it can: {no.text}" for no, session in failed)
        return PrismBusy(f"{reasons}: try again")
    return PrismError(_neither(central, element, identity, no_v4, no_v3))


def _neither(central: Session | None, element: Session | None, identity: Identity, no_v4: _No, no_v3: _No) -> str:
    if central is None and element is not None:
        hint = _hint(no_v3, "v3 is spoken by a Prism Element that has snapshots with changed regions")
        return f"Prism {element.name} cannot be used by v3: {no_v3.text}: {hint}"
    if element is None and central is not None:
        hint = _hint(no_v4, "v4 is spoken by a Prism Central")
        return f"Prism {central.name} cannot be used by v4: {no_v4.text}: {hint}"
    assert central is not None
    assert element is not None
    if element is not central:
        return (
            f"Prism Central {central.name} has no v4 that we can use ({no_v4.text}), and Prism Element {element.name} "
            f"has no v3 snapshots with changed regions ({no_v3.text})"
        )
    if identity.is_central:
        return (
            f"Prism Central {central.name} has no v4 that we can use ({no_v4.text}):"
            " name a Prism Element and an account of its own, too (--element, --element-username)"
        )
    return f"Prism {central.name} can do neither v4 ({no_v4.text}) nor v3 snapshots with changed regions ({no_v3.text})"


def _hint(no: _No, needs: str) -> str:
    """Return what can be done about a family that was demanded and is refused."""
    if no.status == _FORBIDDEN:
        return "this account may not: give it the role Backup Admin (v4) or Cluster Admin (v3)"
    return f"{needs}; give the address of one (--prism), or let the server be asked (--api auto, which is the default)"
