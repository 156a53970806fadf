"""Options of `ntx replicate`, `ntx replicas` and `ntx verify --replica`.

@target_options    target: Target, state: Path    where a replica is kept, and its state
@state_options     state: Path                    the same, of commands that only look
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ntxengine.cli.errors import as_usage
from ntxengine.cli.options import Function
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.tls import tls_options_where
from ntxengine.cli.values import Given
from ntxengine.dataplane.security import ConnectionOptions, TlsOptions
from ntxengine.machines import DefinitionOptions, NetworkMap
from ntxengine.replicate.targets import Target, TargetOptions, target_of

_STATE = click.option(
    "--state",
    "state",
    type=FOLDER,
    envvar="NTX_REPLICA_STATE",
    show_envvar=True,
    metavar="DIR",
    help="Where the state of replicas is kept; beside the disks (DIR/.ntx-replicas) where the target is a folder.",
)


WHOSE = "whose replicas is not said: give --at kvm:DIR, or --state DIR"


def _is_encrypted(arguments: Mapping[str, Any]) -> bool:
    """Say whether a target is; where the state says what the target is, it may be."""
    texts = arguments.get("texts")
    return texts is None or any("nbds" in text for text in texts)


replica_tls_options = tls_options_where(_is_encrypted)
"""Adds --tls-ca, --tls-cert, --tls-key, --tls-psk and --tls-hostname; passes `tls`, None without them."""


def target_options(function: Function) -> Function:
    """Add --to, --state, --format, --history, --overwrite, --network and --tls-*; pass `target` and `state`."""

    @click.option(
        "--to",
        "texts",
        required=True,
        multiple=True,
        type=Given(),
        metavar="TARGET",
        help="kvm:DIR, vmware:DIR, nbd://HOST/{disk}, or one LABEL=nbd://... for each disk (nbds:// through TLS); "
        "once, all of the VM: ovf:DIR, vhd:DIR.",
    )
    @_STATE
    @click.option(
        "--format",
        "form",
        type=Given(),
        metavar="FORMAT",
        help="How disks are kept: kvm:DIR raw (as if not said) or qcow2, vmware:DIR vmfs (as if not said) or flat.",
    )
    @click.option(
        "--history", type=click.IntRange(0, 1000), metavar="N", default=0, help="Older generations to keep (qcow2)."
    )
    @click.option("--overwrite", is_flag=True, help="What NBD servers hold before the first cycle may be lost.")
    @click.option(
        "--network",
        "networks",
        multiple=True,
        type=Given(),
        metavar="NAME=PLACE",
        help="Where a network of the cluster is: bridge:BR, network:NET, none; NAME * for all others.  Repeatable.",
    )
    @replica_tls_options
    @functools.wraps(function)
    def with_target(
        *args: Any,
        texts: tuple[str, ...],
        state: Path | None,
        form: str | None,
        history: int,
        overwrite: bool,
        networks: tuple[str, ...],
        tls: TlsOptions | None,
        **kwargs: Any,
    ) -> Any:
        with as_usage("--network"):
            definition = DefinitionOptions(networks=NetworkMap.parse(networks))
        options = TargetOptions(form or "", history, overwrite, ConnectionOptions(tls=tls), definition)
        with as_usage("--to"):
            target = target_of(" ".join(texts), options)
        return function(*args, target=target, state=state_of(target, state), **kwargs)

    return with_target


def state_of(target: Target, state: Path | None) -> Path:
    """Return where the state of replicas on a target is.  Errors: UsageError (nobody said, and it has no place)."""
    found = state or target.default_state
    if found is None:
        raise click.UsageError(f"{target.text}: is no folder that could hold the state: give --state DIR")
    return found


def state_options(*, required: bool = True) -> Callable[[Function], Function]:
    """Add --state and --at; pass `state`, None where it is not `required` and nobody said."""

    def decorate(function: Function) -> Function:
        @_STATE
        @click.option(
            "--at",
            "text",
            type=Given(),
            metavar="TARGET",
            help="The replicas at this target, kvm:DIR or another folder, beside its disks.",
        )
        @functools.wraps(function)
        def with_state(*args: Any, state: Path | None, text: str | None, **kwargs: Any) -> Any:
            if text is not None and state is None:
                with as_usage("--at"):
                    state = state_of(target_of(text), None)
            if state is None and required:
                raise click.UsageError(WHOSE)
            return function(*args, state=state, **kwargs)

        return with_state

    return decorate
