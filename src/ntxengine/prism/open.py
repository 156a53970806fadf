"""Open a cluster: sessions to the Prisms that are given, a probe, and the family that fits."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import OptionsError
from ntxengine.prism.cluster import Cluster
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Endpoint
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.session import Session, Transport, tls_context
from ntxengine.prism.probe import probe
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Place:
    """An endpoint and how its sessions are made."""

    endpoint: Endpoint
    tls: ssl.SSLContext
    clock: Clock | None
    retry: RetryPolicy | None
    transport: Transport | None

    def session(self) -> Session:
        """Return a session with the endpoint's account."""
        return self._session(self.endpoint.host, self.endpoint)

    def session_without_account(self, host: str) -> Session:
        """Return a session to another host at the same port, to which the account's password never goes."""
        return self._session(host, None)

    def _session(self, host: str, account: Endpoint | None) -> Session:
        return Session(
            host,
            self.endpoint.port,
            self.tls,
            account=account,
            timeout_s=self.endpoint.timeout_s,
            clock=self.clock,
            retry=self.retry,
            transport=self.transport,
        )


async def open_cluster(
    central: Endpoint | None,
    element: Endpoint | None,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    retry: RetryPolicy | None = None,
) -> Cluster:
    """Connect, find out what is there, and return the cluster.  As `ntxengine.prism.connect`."""

    async def place(endpoint: Endpoint) -> _Place:
        tls = await to_thread_joined(tls_context, endpoint.ca_file, insecure=endpoint.insecure)
        return _Place(endpoint, tls, clock, retry, transport)

    if central is None and element is None:
        raise OptionsError("no Prism is given: give the endpoint of a Prism Central, of a Prism Element, or of both")
    endpoints = {endpoint for endpoint in (central, element) if endpoint is not None}
    places: dict[Endpoint | None, _Place] = {endpoint: await place(endpoint) for endpoint in endpoints}
    sessions: dict[Endpoint | None, Session] = {endpoint: places[endpoint].session() for endpoint in endpoints}
    try:
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
        log.info("Prism %s: v3 on a Prism Element", sessions[element].name)
        return Cluster(ElementPrism(sessions[element]), findings)
    log.info("Prism %s: v4 through Prism Central (%s)", sessions[central].name, findings.revisions)
    elements = places[element or central]
    return Cluster(CentralPrism(sessions[central], findings.revisions, elements.session_without_account), findings)
