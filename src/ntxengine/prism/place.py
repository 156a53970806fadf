"""An endpoint, and the sessions that are made for it: with its account, and without one to other hosts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import PrismConnectionError
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Endpoint, authority
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.session import Session, Transport
from ntxengine.prism.http.tls import look_at, tls_context
from ntxengine.prism.http.trust import Trust, known_or_remembered, shown
from ntxengine.prism.http.watch import Watch

ELEMENT_PREFIX = "--element-"

log = logging.getLogger(__name__)


def trust_in_elements(endpoint: Endpoint, central: Endpoint | None) -> Trust:
    """Return how the certificates of the Prism Elements are judged that this endpoint names."""
    return endpoint.trust if endpoint != central else endpoint.element_trust


@dataclass(frozen=True)
class Place:
    """An endpoint and how its sessions are made."""

    endpoint: Endpoint
    element_trust: Trust
    clock: Clock | None
    retry: RetryPolicy | None
    transport: Transport | None
    watch: Watch | None = None

    @property
    def option_prefix(self) -> str:
        """What the options that are about this endpoint begin with."""
        return ELEMENT_PREFIX if self.endpoint.is_element else "--"

    async def session(self) -> Session:
        """Return a session with the endpoint's account."""
        return await self._session(self.endpoint.host, self.endpoint, self.endpoint.trust, self.option_prefix)

    async def session_without_account(self, host: str) -> Session:
        """Return a session to another host at the same port, to which nothing of the account ever goes."""
        return await self._session(host, None, self.element_trust, ELEMENT_PREFIX)

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
            watch=self.watch,
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
