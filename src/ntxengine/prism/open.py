"""Open a cluster: sessions to the Prisms that are given, a probe, and the family that fits."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import OptionsError, PrismConnectionError
from ntxengine.prism.cluster import Cluster
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Endpoint, authority
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.session import Session, Transport
from ntxengine.prism.http.tls import look_at, tls_context
from ntxengine.prism.http.trust import Trust, known_or_remembered, shown
from ntxengine.prism.probe import probe
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """An endpoint and how its sessions are made."""

    endpoint: Endpoint
    element_trust: Trust
    clock: Clock | None
    retry: RetryPolicy | None
    transport: Transport | None

    async def session(self) -> Session:
        """Return a session with the endpoint's account."""
        prefix = "--element-" if self.endpoint.is_element else "--"
        return await self._session(self.endpoint.host, self.endpoint, self.endpoint.trust, prefix)

    async def session_without_account(self, host: str) -> Session:
        """Return a session to another host at the same port, to which nothing of the account ever goes."""
        return await self._session(host, None, self.element_trust, "--element-")

    async def _session(self, host: str, account: Endpoint | None, trust: Trust, option_prefix: str) -> Session:
        if trust.trust_file is not None and not trust.fingerprints and not trust.insecure and self.transport is None:
            trust = await self._known(host, trust)
        tls = await to_thread_joined(
            tls_context, trust.ca_file, insecure=trust.insecure, fingerprints=trust.fingerprints
        )
        return Session(
            host,
            self.endpoint.port,
            tls,
            account=account,
            timeout_s=self.endpoint.timeout_s,
            clock=self.clock,
            retry=self.retry,
            transport=self.transport,
            trust=trust,
            option_prefix=option_prefix,
        )

    async def _known(self, host: str, trust: Trust) -> Trust:
        """Return a trust in the certificate that the host is known by; one that is not known yet is remembered."""
        place, path = authority(host, self.endpoint.port), Path(trust.trust_file or "")
        shown_by = await look_at(host, self.endpoint.port, trust, timeout_s=self.endpoint.timeout_s)
        if shown_by is None:
            raise PrismConnectionError(f"Prism {place}: no connection: check the address, the port and the route")
        known, is_new = await to_thread_joined(known_or_remembered, path, place, shown_by.fingerprint)
        if is_new:
            log.warning("Prism %s: trusted at first use, and remembered in %s: SHA-256 %s", place, path, shown(known))
        return replace(trust, fingerprints=(known,))


async def open_cluster(
    central: Endpoint | None,
    element: Endpoint | None,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    retry: RetryPolicy | None = None,
) -> Cluster:
    """Connect, find out what is there, and return the cluster.  As `ntxengine.prism.connect`."""

    if central is None and element is None:
        raise OptionsError("no Prism is given: give the endpoint of a Prism Central, of a Prism Element, or of both")
    if element is not None and not element.account.speaks_legacy:
        if central is None:
            raise OptionsError(
                "an API key is for v4 only, and a Prism Element is asked by v3: use the key with a Prism Central, or a"
                " local or directory account here"
            )
        element = None
    endpoints = {endpoint for endpoint in (central, element) if endpoint is not None}
    places: dict[Endpoint | None, _Place] = {
        endpoint: _Place(
            endpoint, endpoint.trust if endpoint != central else endpoint.element_trust, clock, retry, transport
        )
        for endpoint in endpoints
    }
    sessions: dict[Endpoint | None, Session] = {}
    try:
        for endpoint, place in places.items():
            sessions[endpoint] = await place.session()
        findings = await probe(sessions.get(central), sessions.get(element))
        chosen = element if findings.revisions is None else central
        for endpoint, session in sessions.items():
            if endpoint != chosen:
                await session.aclose()
    except BaseException:
        for session in sessions.values():
            await session.aclose()
        raise
    if findings.revisions is None:
        log.info("Prism %s: %s", sessions[element].name, findings.why)
        return Cluster(ElementPrism(sessions[element], findings), findings)
    log.info("Prism %s: %s", sessions[central].name, findings.why)
    if findings.is_element_usable is False:
        log.warning("Prism Element %s could not take the place of v4: %s", sessions[element].name, findings.no_v3)
    elements = places[element or central]
    project = None if central is None else central.project
    prism = CentralPrism(
        sessions[central],
        findings.revisions,
        elements.session_without_account,
        project=project,
        findings=findings,
    )
    return Cluster(prism, findings)
