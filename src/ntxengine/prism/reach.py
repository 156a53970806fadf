"""How a Prism is reached, as people say it on a command line or in a file, and the endpoints that this means.

    addresses, accounts, trust  --endpoints-->  Logins: the endpoint of a Prism Central, of a Prism Element, or of both

Secrets are asked for one by one, when it is known which of them are needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ntxengine.prism.http.endpoint import Endpoint
from ntxengine.prism.http.secret import Secret
from ntxengine.prism.http.trust import Trust

SecretName = Literal["password", "api_key", "element_password"]
ReadSecret = Callable[[SecretName], str]


@dataclass(frozen=True)
class Reach:
    """Which Prism, who we are there, and how certificates are judged: all but the secrets.

    `url` is that of a Prism Central, or of a Prism Element where `element` is None.  `element` is one beside it, which
    is used (v3) where it has no v4, with an account of its own.  `element_ca_file` and what follows hold for that one,
    and for those that a Prism Central names.  `api`: auto, v3 or v4.
    """

    url: str
    username: str | None
    auth: str
    project: str | None
    ca_file: Path | None
    fingerprint: str | None
    insecure: bool
    trust_on_first_use: bool
    trust_file: Path | None
    element: str | None
    element_username: str | None
    element_ca_file: Path | None
    element_fingerprint: tuple[str, ...]
    element_name: str | None
    element_insecure: bool
    api: str
    prism_timeout: float

    @property
    def insecure_warnings(self) -> tuple[str, ...]:
        """Say which certificates are not checked."""
        found = []
        if self.insecure:
            found.append("--insecure: anybody between here and Prism can read the password and change the answers")
        if self.element_insecure:
            risk = "change what it answers" if self.element is None else "read its password and change what it answers"
            found.append(f"--element-insecure: anybody between here and a Prism Element can {risk}")
        return tuple(found)

    def endpoint(self, read: ReadSecret) -> Endpoint:
        """Return the endpoint of `url`.  Errors: OptionsError; those of `read`."""
        return Endpoint(
            url=self.url,
            username=self.username or "",
            password=Secret("" if self.auth == "saml" else read("api_key" if self.auth == "api_key" else "password")),
            auth=self.auth,
            project=self.project,
            ca_file=None if self.ca_file is None else str(self.ca_file),
            fingerprint=self.fingerprint,
            insecure=self.insecure,
            trust_file=self._remembered,
            elements=self._element_trust(),
            timeout_s=self.prism_timeout,
        )

    def element_endpoint(self, read: ReadSecret) -> Endpoint:
        """Return the endpoint of `element`, which is given.  Errors: as `endpoint`."""
        assert self.element is not None
        assert self.element_username is not None
        return Endpoint(
            url=self.element,
            username=self.element_username,
            password=Secret(read("element_password")),
            elements=self._element_trust(),
            is_element=True,
            timeout_s=self.prism_timeout,
        )

    @property
    def _remembered(self) -> str | None:
        return str(self.trust_file or default_trust_file()) if self.trust_on_first_use else None

    def _element_trust(self) -> Trust:
        return Trust(
            ca_file=str(found) if (found := self.element_ca_file or self.ca_file) else None,
            fingerprints=self.element_fingerprint,
            name=self.element_name,
            insecure=self.element_insecure,
            trust_file=self._remembered,
        )


@dataclass(frozen=True)
class Login:
    """Everything that a connection needs; with `api` auto, and no `element`, the one endpoint is given as both."""

    central: Endpoint | None
    element: Endpoint | None

    def within(self, snapshot_timeout_s: float) -> Login:
        """Return the same, where Prism may take so long to make a recovery point, or to delete one."""
        central, element = (
            None if each is None else replace(each, snapshot_timeout_s=snapshot_timeout_s)
            for each in (self.central, self.element)
        )
        return Login(central, element)


def endpoints(reach: Reach, read: ReadSecret) -> Login:
    """Return what to connect to; `read` is asked for what is needed of the secrets.

    Errors: OptionsError; those of `read`.
    """
    central = element = None
    if reach.api != "v3" or reach.element is None:
        central = element = reach.endpoint(read)
    if reach.api != "v4" and reach.element is not None:
        element = reach.element_endpoint(read)
    return Login(None if reach.api == "v3" else central, None if reach.api == "v4" else element)


def default_trust_file() -> Path:
    """Return where certificates that were trusted on first use are remembered if no file is named."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "ntx" / "trusted-certificates"
