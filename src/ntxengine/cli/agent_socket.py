"""Where the agent is that a command speaks with: --socket, NTX_SOCKET, the file of configuration, the usual place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ntxengine.cli.paths import LocalPath
from ntxengine.errors import OptionsError

if TYPE_CHECKING:
    from ntxengine.agent.client import AgentClient

USUAL = Path("/run/ntx/agent.sock")
"""What agent.socket is where the file says nothing."""

Function = Callable[..., Any]


def socket_option(function: Function) -> Function:
    """Add --socket; pass `agent`, which asks it.  Nothing is asked yet."""

    @click.option(
        "--socket",
        type=LocalPath(dir_okay=False, readable=False),
        envvar="NTX_SOCKET",
        show_envvar=True,
        metavar="PATH",
        help=f"Where the agent listens; that of --config, or {USUAL}.",
    )
    @functools.wraps(function)
    def with_agent(*args: Any, socket: Path | None, **kwargs: Any) -> Any:
        from ntxengine.agent.client import AgentClient

        # A folder that is read instead needs no file of configuration.
        path = socket or (None if kwargs.get("state") else _configured())
        return function(*args, agent=AgentClient(path or USUAL), **kwargs)

    return with_agent


def _configured() -> Path | None:
    """Return what the file of configuration says, None without one.  Errors: OptionsError, NtxError."""
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if (file := context.params.get("config_file")) is not None:
            from ntxengine.cli.defaults import load_file

            try:
                return Path(load_file(str(file)).config.agent.socket)
            except OptionsError as exc:
                exc.add_note("--socket PATH does without the file")
                raise
        context = context.parent
    return None


def asked(agent: AgentClient, *, with_vms: bool = False) -> Any:
    """Return how an agent is, as it tells it, and as answers.Status.  Errors: as AgentClient."""
    from ntxengine.agent.answers import Status

    document = agent.status(with_vms=with_vms)
    return document, agent.understood(document, Status)
