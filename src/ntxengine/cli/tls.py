"""Options of TLS, for the NBD servers of nbds://.

@tls_options      tls: TlsOptions | None       @connection_options (connection.py) hands it on
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ntxengine.cli.disk_targets import locations_named
from ntxengine.cli.options import Function
from ntxengine.cli.paths import FILE
from ntxengine.dataplane.security import TlsOptions

_TLS = {
    "tls_ca": "--tls-ca",
    "tls_certificate": "--tls-cert",
    "tls_key": "--tls-key",
    "tls_psk": "--tls-psk",
    "tls_host_name": "--tls-hostname",
}


def tls_options_where(is_used: Callable[[Mapping[str, Any]], bool]) -> Callable[[Function], Function]:
    """Return what adds the same to a command of which `is_used` says whether its arguments name anything encrypted."""

    def decorate(function: Function) -> Function:
        @file_option(
            "--tls-ca", "tls_ca", "NTX_TLS_CA", "CA certificates, in PEM, that the server of nbds:// is known by."
        )
        @file_option("--tls-cert", "tls_certificate", "NTX_TLS_CERT", "Certificate to show to the server, in PEM.")
        @file_option("--tls-key", "tls_key", "NTX_TLS_KEY", "Its private key; nobody else may be able to read it.")
        @file_option(
            "--tls-psk", "tls_psk", "NTX_TLS_PSK", "Pre-shared key instead of certificates: a line USER:HEXKEY."
        )
        @click.option(
            "--tls-hostname",
            "tls_host_name",
            metavar="NAME",
            envvar="NTX_TLS_HOSTNAME",
            show_envvar=True,
            help="What the server's certificate must be for, if not for the host in the URI.",
        )
        @functools.wraps(function)
        def with_tls(
            *args: Any,
            tls_ca: Path | None,
            tls_certificate: Path | None,
            tls_key: Path | None,
            tls_psk: Path | None,
            tls_host_name: str | None,
            **kwargs: Any,
        ) -> Any:
            given = (tls_ca, tls_certificate, tls_key, tls_psk, tls_host_name)
            is_encrypted = is_used(kwargs)
            if not is_encrypted:
                _refuse_in_vain(click.get_current_context())
            tls = TlsOptions(*given) if is_encrypted and any(given) else None
            return function(*args, tls=tls, **kwargs)

        return with_tls

    return decorate


def tls_options(function: Function) -> Function:
    """Add --tls-ca, --tls-cert, --tls-key, --tls-psk and --tls-hostname; pass `tls`."""
    decorate = tls_options_where(lambda named: any(location.is_tls for location in locations_named(named)))
    return decorate(function)


def file_option(name: str, field: str, variable: str, text: str) -> Callable[[Function], Function]:
    """Return what adds an option that names a file."""

    def decorate(function: Function) -> Function:
        option = click.option(name, field, type=FILE, metavar="FILE", envvar=variable, show_envvar=True, help=text)
        return option(function)

    return decorate


def _refuse_in_vain(ctx: click.Context) -> None:
    """Whoever types an option of TLS believes that what follows is encrypted.  A variable is for commands that are."""
    for field, name in _TLS.items():
        if ctx.get_parameter_source(field) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{name}: nothing here is encrypted: write nbds:// or nbds+unix:// for what is to be"
            )
