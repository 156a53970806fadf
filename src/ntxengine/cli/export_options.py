"""Options of `ntx export`.

@way_options      way: Way                 how the control plane gets at disks and links
@notify_options   notify: NotifyOptions    where it is told of them
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ntxengine.cli.errors import as_usage
from ntxengine.cli.options import Function
from ntxengine.cli.paths import FILE
from ntxengine.cli.ssh import LoginType, login_options, refuse_ssh_in_vain
from ntxengine.cli.tls import file_option
from ntxengine.cli.values import Given, failing_with
from ntxengine.errors import OptionsError
from ntxengine.export.options import NotifyOptions, PortOptions, ServerTls, TunnelOptions, Way, parse_ports
from ntxengine.files.secret_file import read_secret_file
from ntxengine.prism import Secret
from ntxengine.tunnel.options import SshGateway, SshLogin, SshOptions


class Ports(click.ParamType[tuple[int, int]]):
    """Ports of this machine: `FIRST-LAST`."""

    name = "ports"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        with failing_with(self, param, ctx):
            return parse_ports(str(value))


def way_options(function: Function) -> Function:
    """Add --ports, --advertise, --bind, --tls-*, --tunnel, --tunnel-folder and --ssh-*; pass `way`."""

    @click.option("--ports", type=Ports(), metavar="FIRST-LAST", help="Ports to serve at: one a disk, one for links.")
    @click.option("--advertise", type=Given(), metavar="HOST", help="This machine, as the control plane reaches it.")
    @click.option("--bind", type=Given(), metavar="ADDRESS", help="Listen at this address only.")
    @file_option("--tls-ca", "tls_ca", "NTX_TLS_CA", "CA whose certificates clients must show, in PEM.")
    @file_option("--tls-cert", "tls_cert", "NTX_TLS_CERT", "Certificate to show to clients, in PEM.")
    @file_option("--tls-key", "tls_key", "NTX_TLS_KEY", "Its private key; nobody else may be able to read it.")
    @click.option(
        "--tunnel",
        type=LoginType(),
        metavar="ssh://[USER@]HOST[:PORT]",
        help="The control plane's ssh server: disks and links become sockets there, and no port is opened here.",
    )
    @click.option("--tunnel-folder", type=Given(), metavar="DIR", help="The folder there for these sockets.")
    @login_options
    @functools.wraps(function)
    def with_way(
        *args: Any,
        ports: tuple[int, int] | None,
        advertise: str | None,
        bind: str | None,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        tunnel: SshLogin | None,
        tunnel_folder: str | None,
        login: SshOptions,
        **kwargs: Any,
    ) -> Any:
        if ports and _is_of_file("tunnel"):  # what is typed wins over it
            tunnel = None
        if tunnel is not None:
            if ports or advertise or bind:
                raise click.UsageError("--tunnel opens no port here: leave out --ports, --advertise and --bind")
            if tunnel_folder is None:
                raise click.UsageError("--tunnel: say in which folder there sockets may be made: --tunnel-folder DIR")
            with as_usage("--tunnel-folder"):
                way: Way = TunnelOptions(SshGateway(tunnel, login), tunnel_folder)
        else:
            if tunnel_folder is not None:
                raise click.UsageError("--tunnel-folder: nothing goes through ssh: give --tunnel")
            refuse_ssh_in_vain("give --tunnel")
            way = _ports(ports, advertise, bind or "", tls_ca, tls_cert, tls_key)
        return function(*args, way=way, **kwargs)

    return with_way


def _is_of_file(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.DEFAULT_MAP


def _ports(
    ports: tuple[int, int] | None,
    advertise: str | None,
    bind: str,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> PortOptions:
    if ports is None or advertise is None:
        raise click.UsageError(
            "how the control plane gets at the disks is not said: give --ports and --advertise, or --tunnel and "
            "--tunnel-folder"
        )
    if ca is None or certificate is None or key is None:
        raise click.UsageError(
            "--ports: disks are served by TLS only, to clients with a certificate: give --tls-ca, --tls-cert and "
            "--tls-key"
        )
    try:
        return PortOptions(advertise, ports, ServerTls(ca, certificate, key), bind)
    except OptionsError as exc:
        raise click.UsageError(f"--{exc}") from exc


def notify_options(function: Function) -> Function:
    """Add --notify, --notify-token-file, --notify-ca and --insecure-notify; pass `notify`."""

    @click.option(
        "--notify", "notify_url", required=True, type=Given(), metavar="URL", help="Whom to tell, by a POST: https."
    )
    @click.option(
        "--notify-token-file", "token_file", type=FILE, metavar="FILE", help="A token to show to it, in one line."
    )
    @click.option("--notify-ca", type=FILE, metavar="FILE", help="CA that its certificate is known by, in PEM.")
    @click.option("--insecure-notify", is_flag=True, help="Allow http: links and token can be read on the way.")
    @functools.wraps(function)
    def with_notify(
        *args: Any,
        notify_url: str,
        token_file: Path | None,
        notify_ca: Path | None,
        insecure_notify: bool,
        **kwargs: Any,
    ) -> Any:
        token = None
        if token_file is not None:
            found = read_secret_file(token_file, "token file")
            if not found.text.isascii() or not found.text.isprintable() or " " in found.text:
                raise OptionsError(f"token file {token_file}: a token is printable ASCII, without spaces")
            if found.warning:
                kwargs["screen"].warning(found.warning)
            token = Secret(found.text)
        with as_usage("--notify"):
            notify = NotifyOptions(notify_url, token, notify_ca, insecure_notify)
        return function(*args, notify=notify, **kwargs)

    return with_notify
