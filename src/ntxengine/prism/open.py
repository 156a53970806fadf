"""Open a cluster: sessions to the Prisms that are given, a probe, and the family that fits."""

from __future__ import annotations

import logging

from ntxengine.errors import OptionsError
from ntxengine.prism.cluster import Cluster
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Endpoint
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.session import Session, Transport
from ntxengine.prism.place import Place, trust_in_elements
from ntxengine.prism.probe import probe
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism

log = logging.getLogger(__name__)


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
    places: dict[Endpoint | None, Place] = {
        endpoint: Place(endpoint, trust_in_elements(endpoint, central), clock, retry, transport)
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
