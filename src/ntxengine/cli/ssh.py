"""Options of tunnels through ssh.

@ssh_options      ssh: SshOptions              for nbd+ssh://; @connection_options (connection.py) hands it on
@tunnel_options   attach: AttachArguments      for the way to the disks of a cluster; below @attach_options
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ntxengine.cli.disk_targets import locations_named
from ntxengine.cli.options import Function
from ntxengine.cli.paths import FILE
from ntxengine.errors import OptionsError
from ntxengine.tunnel.options import DEFAULT_PROCESSES, SshGateway, SshLogin, SshOptions, parse_ssh_login

if TYPE_CHECKING:
    from ntxengine.cli.session import AttachArguments

_NAMES = {"ssh_key": "--ssh-key", "ssh_known_hosts": "--ssh-known-hosts", "ssh_jump": "--ssh-jump"}


class LoginType(click.ParamType[SshLogin]):
    """A user on a host: `[USER@]HOST[:PORT]`."""

    name = "login"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SshLogin:
        try:
            return value if isinstance(value, SshLogin) else parse_ssh_login(str(value))
        except OptionsError as exc:
            self.fail(str(exc), param, ctx)


def ssh_options(function: Function) -> Function:
    """Add --ssh-key, --ssh-known-hosts and --ssh-jump; pass `ssh`.

    Where @transfer_options stands above, there are as many ssh as it is given connections; otherwise one will do.
    """

    @login_options
    @functools.wraps(function)
    def with_ssh(*args: Any, login: SshOptions, **kwargs: Any) -> Any:
        if not _may_go_through_ssh(kwargs):
            refuse_ssh_in_vain("write nbd+ssh:// for what is to")
        transfer = kwargs.get("transfer")
        processes = 1 if transfer is None else transfer.connections or DEFAULT_PROCESSES
        return function(*args, ssh=dataclasses.replace(login, processes=processes), **kwargs)

    return with_ssh


def tunnel_options(function: Function) -> Function:
    """Add --tunnel, --ssh-key, --ssh-known-hosts and --ssh-jump to the `attach` that @attach_options above passes."""

    @click.option(
        "--tunnel",
        type=LoginType(),
        envvar="NTX_TUNNEL",
        show_envvar=True,
        metavar="ssh://[USER@]HOST[:PORT]",
        help="Read the disks through this ssh server: iSCSI only; not for Prism.",
    )
    @login_options
    @functools.wraps(function)
    def with_tunnel(
        *args: Any, attach: AttachArguments, tunnel: SshLogin | None, login: SshOptions, **kwargs: Any
    ) -> Any:
        if tunnel is None:
            refuse_ssh_in_vain("give --tunnel")
        gateway = None if tunnel is None else SshGateway(tunnel, login)
        return function(*args, attach=dataclasses.replace(attach, gateway=gateway), **kwargs)

    return with_tunnel


def login_options(function: Function) -> Function:
    """Add --ssh-key, --ssh-known-hosts and --ssh-jump; pass `login`."""

    @click.option(
        "--ssh-key",
        type=FILE,
        envvar="NTX_SSH_KEY",
        show_envvar=True,
        metavar="FILE",
        help="The private key to log in with over ssh; nobody else may be able to read it.",
    )
    @click.option(
        "--ssh-known-hosts",
        type=FILE,
        envvar="NTX_SSH_KNOWN_HOSTS",
        show_envvar=True,
        metavar="FILE",
        help="The keys of the ssh servers that may be spoken to; without it those in ~/.ssh/known_hosts.",
    )
    @click.option(
        "--ssh-jump",
        type=LoginType(),
        envvar="NTX_SSH_JUMP",
        show_envvar=True,
        metavar="[USER@]HOST[:PORT]",
        help="The host to log in to first over ssh, with the same key.",
    )
    @functools.wraps(function)
    def with_login(
        *args: Any, ssh_key: Path | None, ssh_known_hosts: Path | None, ssh_jump: SshLogin | None, **kwargs: Any
    ) -> Any:
        return function(*args, login=SshOptions(ssh_key, ssh_known_hosts, ssh_jump), **kwargs)

    return with_login


def _may_go_through_ssh(arguments: Mapping[str, Any]) -> bool:
    try:
        return any(location.kind == "nbd_ssh" for location in locations_named(arguments))
    except OptionsError:
        return True  # the command itself says what is wrong with it


def refuse_ssh_in_vain(remedy: str) -> None:
    """Whoever types an option of ssh believes that what follows goes through it.  A variable is for what does."""
    ctx = click.get_current_context()
    for field, name in _NAMES.items():
        if ctx.get_parameter_source(field) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{name}: nothing here goes through ssh: {remedy}")
