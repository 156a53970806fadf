"""Options that reach a Prism: where it is, who we are, how its certificate is judged.

@prism_options            prism: PrismOptions
@optional_prism_options   prism: PrismOptions | None      for a command that can do without
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ntxengine.cli.defaults import of_file
from ntxengine.cli.paths import LocalPath
from ntxengine.cli.values import FINGERPRINT, SECONDS, PrismUrl, Username
from ntxengine.files.secret_file import read_secret_file
from ntxengine.prism.reach import Reach, SecretName

if TYPE_CHECKING:
    from ntxengine.cli.output import Screen

Function = Callable[..., Any]

AUTH_KINDS = ("local", "ad", "api_key", "saml")
"""As in prism.ACCOUNTS, which is not loaded for `--help`; a test compares them."""


@dataclass(frozen=True)
class PrismOptions(Reach):
    """Which Prism, and who we are.  The passwords, or the key, are read when they are needed."""

    password_file: Path | None
    api_key_file: Path | None
    element_password_file: Path | None

    def warn_of_insecure(self, screen: Screen) -> None:
        """Say which certificates are not checked."""
        for warning in self.insecure_warnings:
            screen.warning(warning)

    def read_secret(self, name: SecretName, screen: Screen) -> str:
        """Return a secret, from wherever it is; asked for on a terminal at last.  Errors: click.UsageError."""
        user = self.element_username if name == "element_password" else self.username
        if name == "api_key":
            option = SecretOption("API key", "NTX_API_KEY", "--api-key-file", self.api_key_file)
            prompt = "API key"
        elif name == "password":
            option = SecretOption("password", "NTX_PASSWORD", "--password-file", self.password_file)
            prompt = f"Password of {user}"
        else:
            file = self.element_password_file
            option = SecretOption("password", "NTX_ELEMENT_PASSWORD", "--element-password-file", file)
            prompt = f"Password of {user} at the Prism Element"
        configuration = of_file()
        if configuration is None:
            return option.read(prompt, screen)
        is_known = configuration.names(self.url) and (
            name != "element_password" or configuration.names_element(self.element)
        )
        if is_known and (owner := configuration.other_user(name, user)):
            return option.read(
                prompt, screen, why_not=f"{configuration.loaded.name} has that of {owner}, not of {user}"
            )
        return option.read(prompt, screen, lambda: configuration.secret(name, self.url, self.element, screen))


@dataclass(frozen=True)
class SecretOption:
    """Where a secret may come from: a variable, and an option that names a file."""

    what: str
    variable: str
    option: str
    file: Path | None

    def read(
        self,
        prompt: str,
        screen: Screen,
        of_configuration: Callable[[], str | None] = lambda: None,
        *,
        why_not: str = "",
    ) -> str:
        """Return the secret: of the environment, of its file, of the configuration, or asked for on a terminal.

        `why_not`: why that of the configuration is none.
        """
        if secret := os.environ.get(self.variable):
            return secret
        if self.file is not None:
            line = read_secret_file(self.file, f"{self.what} file")
            if line.warning:
                screen.warning(line.warning)
            return line.text
        if found := of_configuration():
            return found
        if sys.stdin.isatty() and sys.stderr.isatty():
            answer: str = click.prompt(prompt, hide_input=True, err=True)
            return answer
        reason = f" ({why_not})" if why_not else ""
        raise click.UsageError(f"no {self.what}{reason}: set {self.variable}, or give {self.option} FILE")


_WITHOUT: dict[str, Any] = {
    "auth": "local",
    "insecure": False,
    "trust_on_first_use": False,
    "element_fingerprint": (),
    "element_insecure": False,
    "api": "auto",
    "prism_timeout": 60.0,
}
"""What an option is that nobody gave; the others are None."""


def _option(name: str, variable: str, text: str, *, field: str | None = None, **more: Any) -> Callable[..., Any]:
    names = (name,) if field is None else (name, field)
    return click.option(*names, envvar=variable, show_envvar=True, help=text, **more)


_FILE = LocalPath(exists=True, dir_okay=False, readable=True)

_OPTIONS = (
    _option("--username", "NTX_USERNAME", "User of that Prism; user@domain with --auth ad.", type=Username()),
    _option(
        "--auth",
        "NTX_AUTH",
        "Kind of account.",
        type=click.Choice(AUTH_KINDS),
        default=_WITHOUT["auth"],
        show_default=True,
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
        "--trust-on-first-use/--no-trust-on-first-use",
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
    _option("--insecure/--no-insecure", "NTX_INSECURE", "Trust any certificate of that Prism.  Warns.", is_flag=True),
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
    _option(
        "--element-insecure/--no-element-insecure",
        "NTX_ELEMENT_INSECURE",
        "As --insecure, for them.  Warns.",
        is_flag=True,
    ),
    _option(
        "--api",
        "NTX_API",
        "Prism API family; auto asks the server.",
        type=click.Choice(["auto", "v3", "v4"]),
        default=_WITHOUT["api"],
        show_default=True,
    ),
    _option(
        "--prism-timeout",
        "NTX_PRISM_TIMEOUT",
        "Longest wait for one answer of Prism.",
        type=SECONDS,
        default=_WITHOUT["prism_timeout"],
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
            given = _of_one_cluster({name: kwargs.pop(name) for name in names})
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


def _of_one_cluster(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given; without what the configuration says of another Prism than the one that was named."""
    ctx = click.get_current_context()
    file = of_file(ctx)
    if file is None or given["url"] is None:
        return given
    others = set(given) if not file.names(given["url"]) else set()
    if not file.names_element(given["element"]):
        others |= {name for name in given if name.startswith("element_")}
    if file.other_user("password", given["username"]):
        others.add("password_file")
    if file.other_user("element_password", given["element_username"]):
        others.add("element_password_file")
    dropped = {name for name in others if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP}
    return {name: _WITHOUT.get(name) if name in dropped else value for name, value in given.items()}


def prism_options(function: Function) -> Function:
    """Add the options that reach a Prism; pass `prism`."""
    return _prism_options(required=True)(function)


def optional_prism_options(function: Function) -> Function:
    """The same for a command that can do without; `prism` is None then."""
    return _prism_options(required=False)(function)
