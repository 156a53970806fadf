"""Options that reach a Prism: where it is, who we are, how its certificate is judged.

@prism_options            prism: PrismOptions
@optional_prism_options   prism: PrismOptions | None      for a command that can do without
"""

from __future__ import annotations

import dataclasses
import functools
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntxengine.cli.paths import LocalPath
from ntxengine.cli.values import FINGERPRINT, SECONDS, PrismUrl, Username
from ntxengine.errors import OptionsError

if TYPE_CHECKING:
    from ntxengine.cli.output import Screen
    from ntxengine.prism import Endpoint, Trust

Function = Callable[..., Any]

MAX_PASSWORD_BYTES = 4096

AUTH_KINDS = ("local", "ad", "api_key", "saml")
"""As in prism.ACCOUNTS, which is not loaded for `--help`; a test compares them."""


@dataclass(frozen=True)
class PrismOptions:
    """Which Prism, and who we are.  The passwords, or the key, are read when they are needed."""

    url: str
    username: str | None
    auth: str
    password_file: Path | None
    api_key_file: Path | None
    project: str | None
    ca_file: Path | None
    fingerprint: str | None
    insecure: bool
    trust_on_first_use: bool
    trust_file: Path | None
    element: str | None
    element_username: str | None
    element_password_file: Path | None
    element_ca_file: Path | None
    element_fingerprint: tuple[str, ...]
    element_name: str | None
    element_insecure: bool
    api: str
    prism_timeout: float

    def warn_of_insecure(self, screen: Screen) -> None:
        """Say which certificates are not checked."""
        if self.insecure:
            screen.warning("--insecure: anybody between here and Prism can read the password and change the answers")
        if self.element_insecure:
            risk = "change what it answers" if self.element is None else "read its password and change what it answers"
            screen.warning(f"--element-insecure: anybody between here and a Prism Element can {risk}")

    def endpoint(self, screen: Screen) -> Endpoint:
        """Read the secret, or ask for it, and return the endpoint of --prism."""
        from ntxengine.prism import Endpoint, Secret

        return Endpoint(
            url=self.url,
            username=self.username or "",
            password=Secret("" if self.auth == "saml" else self.secret(screen)),
            auth=self.auth,
            project=self.project,
            ca_file=None if self.ca_file is None else str(self.ca_file),
            fingerprint=self.fingerprint,
            insecure=self.insecure,
            trust_file=self._remembered,
            elements=self._element_trust(),
            timeout_s=self.prism_timeout,
        )

    def element_endpoint(self, screen: Screen) -> Endpoint:
        """Read the password of the account at --element, or ask for it, and return that endpoint."""
        from ntxengine.prism import Endpoint, Secret

        assert self.element is not None
        assert self.element_username is not None
        option = SecretOption("password", "NTX_ELEMENT_PASSWORD", "--element-password-file", self.element_password_file)
        return Endpoint(
            url=self.element,
            username=self.element_username,
            password=Secret(option.read(f"Password of {self.element_username} at the Prism Element", screen)),
            elements=self._element_trust(),
            is_element=True,
            timeout_s=self.prism_timeout,
        )

    @property
    def _remembered(self) -> str | None:
        return str(self.trust_file or default_trust_file()) if self.trust_on_first_use else None

    def _element_trust(self) -> Trust:
        from ntxengine.prism import Trust

        return Trust(
            ca_file=str(found) if (found := self.element_ca_file or self.ca_file) else None,
            fingerprints=self.element_fingerprint,
            name=self.element_name,
            insecure=self.element_insecure,
            trust_file=self._remembered,
        )

    def secret(self, screen: Screen) -> str:
        """Return the password or the key of the account at --prism."""
        if self.auth == "api_key":
            return SecretOption("API key", "NTX_API_KEY", "--api-key-file", self.api_key_file).read("API key", screen)
        option = SecretOption("password", "NTX_PASSWORD", "--password-file", self.password_file)
        return option.read(f"Password of {self.username}", screen)


@dataclass(frozen=True)
class SecretOption:
    """Where a secret may come from: a variable, and an option that names a file."""

    what: str
    variable: str
    option: str
    file: Path | None

    def read(self, prompt: str, screen: Screen) -> str:
        """Return the secret: of the environment, of its file, or asked for on a terminal."""
        if secret := os.environ.get(self.variable):
            return secret
        if self.file is not None:
            return read_secret_file(self.file, f"{self.what} file", screen)
        if sys.stdin.isatty() and sys.stderr.isatty():
            answer: str = click.prompt(prompt, hide_input=True, err=True)
            return answer
        raise click.UsageError(f"no {self.what}: set {self.variable}, or give {self.option} FILE")


def default_trust_file() -> Path:
    """Return where certificates that were trusted on first use are remembered if no file is named."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "ntx" / "trusted-certificates"


def _option(name: str, variable: str, text: str, *, field: str | None = None, **more: Any) -> Callable[..., Any]:
    names = (name,) if field is None else (name, field)
    return click.option(*names, envvar=variable, show_envvar=True, help=text, **more)


_FILE = LocalPath(exists=True, dir_okay=False, readable=True)

_OPTIONS = (
    _option("--username", "NTX_USERNAME", "User of that Prism; user@domain with --auth ad.", type=Username()),
    _option(
        "--auth", "NTX_AUTH", "Kind of account.", type=click.Choice(AUTH_KINDS), default="local", show_default=True
    ),
    _option(
        "--password-file",
        "NTX_PASSWORD_FILE",
        "File whose first line is the password.  NTX_PASSWORD, if set, is used instead.",
        type=LocalPath(),
    ),
    _option(
        "--api-key-file",
        "NTX_API_KEY_FILE",
        "File whose first line is the key of --auth api_key.  NTX_API_KEY, if set, is used instead.",
        type=LocalPath(),
    ),
    _option("--project", "NTX_PROJECT", "extId of the project that recovery points are made in (v4).", metavar="UUID"),
    _option("--ca-file", "NTX_CA_FILE", "Certificates (PEM) to trust instead of the system's.", type=_FILE),
    _option(
        "--fingerprint", "NTX_FINGERPRINT", "SHA-256 of that Prism's certificate: trust this one.", type=FINGERPRINT
    ),
    _option(
        "--trust-on-first-use",
        "NTX_TRUST_ON_FIRST_USE",
        "Trust the certificate that a Prism shows first, remember it, and refuse another one later.",
        is_flag=True,
    ),
    _option(
        "--trust-file",
        "NTX_TRUST_FILE",
        "Where --trust-on-first-use remembers; ~/.config/ntx/trusted-certificates.",
        type=LocalPath(dir_okay=False),
    ),
    _option("--insecure", "NTX_INSECURE", "Trust any certificate of that Prism.  Warns.", is_flag=True),
    _option(
        "--element",
        "NTX_ELEMENT",
        "Prism Element beside that Prism Central, used (v3) where it has no v4: https://host[:9440].",
        type=PrismUrl(),
        metavar="URL",
    ),
    _option("--element-username", "NTX_ELEMENT_USERNAME", "User of --element.", type=Username()),
    _option(
        "--element-password-file",
        "NTX_ELEMENT_PASSWORD_FILE",
        "As --password-file, for that user.  NTX_ELEMENT_PASSWORD, if set, is used instead.",
        type=LocalPath(),
    ),
    _option(
        "--element-ca-file",
        "NTX_ELEMENT_CA_FILE",
        "As --ca-file, for --element and the Prism Elements that a Prism Central names.",
        type=_FILE,
    ),
    _option(
        "--element-fingerprint",
        "NTX_ELEMENT_FINGERPRINT",
        "As --fingerprint, for them; may be given several times.",
        type=FINGERPRINT,
        multiple=True,
    ),
    _option(
        "--element-name",
        "NTX_ELEMENT_NAME",
        "Name in their certificates, which are reached by an address.",
        metavar="HOST",
    ),
    _option("--element-insecure", "NTX_ELEMENT_INSECURE", "As --insecure, for them.  Warns.", is_flag=True),
    _option(
        "--api",
        "NTX_API",
        "Prism API family; auto asks the server.",
        type=click.Choice(["auto", "v3", "v4"]),
        default="auto",
        show_default=True,
    ),
    _option(
        "--prism-timeout",
        "NTX_PRISM_TIMEOUT",
        "Longest wait for one answer of Prism.",
        type=SECONDS,
        default=60.0,
        show_default=True,
        metavar="SECONDS",
    ),
)


def _prism_options(*, required: bool) -> Callable[[Function], Function]:
    """Return the decorator that adds the options that reach a Prism."""
    names = tuple(field.name for field in dataclasses.fields(PrismOptions))
    address = _option(
        "--prism",
        "NTX_PRISM",
        "Prism Central (v4), or a Prism Element (v3): https://host[:9440].",
        field="url",
        type=PrismUrl(),
        required=required,
        metavar="URL",
    )

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def with_prism(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in names}
            prism = None
            if given["url"] is not None:
                if given["username"] is None and given["auth"] in ("local", "ad"):
                    raise click.UsageError("no user: give --username NAME, or set NTX_USERNAME")
                if given["element"] is not None and given["element_username"] is None:
                    raise click.UsageError("no user: give --element-username NAME, or set NTX_ELEMENT_USERNAME")
                if given["element"] is None and (given["element_username"] or given["element_password_file"]):
                    raise click.UsageError("an account without its Prism Element: give --element URL, too")
                prism = PrismOptions(**given)
            return function(*args, prism=prism, **kwargs)

        for option in reversed((address, *_OPTIONS)):
            with_prism = option(with_prism)
        return with_prism

    return decorate


def prism_options(function: Function) -> Function:
    """Add the options that reach a Prism; pass `prism`."""
    return _prism_options(required=True)(function)


def optional_prism_options(function: Function) -> Function:
    """The same for a command that can do without; `prism` is None then."""
    return _prism_options(required=False)(function)


def read_secret_file(path: Path, what: str, screen: Screen) -> str:
    """Return the first line of `path`, and warn if everybody on this machine can read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_PASSWORD_BYTES + 1)
        first = content.split(b"\n", 1)[0].rstrip(b"\r").decode()
    except OSError as exc:
        raise OptionsError(f"{what} {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise OptionsError(f"{what} {path}: its first line is not UTF-8") from exc
    if not first or len(content) > MAX_PASSWORD_BYTES:
        raise OptionsError(f"{what} {path}: expected one line of 1 to {MAX_PASSWORD_BYTES} bytes")
    if mode & stat.S_IROTH:
        screen.warning(f"{what} {path} can be read by every user of this machine: chmod 600 {path}")
    return first
