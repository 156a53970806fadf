"""What a job says that keeps replicas: where, and how."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from ntxengine.config.part import Part
from ntxengine.config.values import LocalPath, SizeOrNone, Text
from ntxengine.errors import OptionsError
from ntxengine.machines import NetworkMap
from ntxengine.replicate.options import DEFAULT_SAMPLE
from ntxengine.replicate.targets import target_of
from ntxengine.units import format_size


def _target(text: str, info: ValidationInfo) -> str:
    """A folder that is relative begins at that of the file."""
    try:
        target = target_of(text)
    except OptionsError as exc:
        raise ValueError(str(exc)) from exc
    folder = info.context.get("folder") if isinstance(info.context, dict) else None
    if folder is None or target.copies is None:
        return text
    kind, _, path = text.partition(":")
    return f"{kind}:{os.path.normpath(Path(folder) / path)}"


def _network(text: str) -> str:
    try:
        NetworkMap.parse([text])
    except OptionsError as exc:
        raise ValueError(str(exc)) from exc
    return text


class Replicate(Part):
    """Where the VMs of a job are kept as replicas, and how: the options of `ntx replicate`."""

    to: Annotated[Text, AfterValidator(_target)]
    """kvm:DIR, vmware:DIR, nbd://HOST/{disk}; or LABEL=nbd://... for each disk of one VM, with spaces between."""
    state: LocalPath | None = None
    """Directory of their state; beside the disks (DIR/.ntx-replicas) where the target is a directory."""
    format: Text | None = None
    """How disks are kept: kvm:DIR raw (as if not said) or qcow2, vmware:DIR vmfs (as if not said) or flat."""
    history: Annotated[int, Field(ge=0, le=1000)] = 0
    """Older generations to keep (qcow2)."""
    overwrite: bool = False
    """What NBD servers hold before the first cycle may be lost."""
    networks: tuple[Annotated[Text, AfterValidator(_network)], ...] = ()
    """Where networks of the cluster are, NAME=PLACE: bridge:BR, network:NET, none; NAME * for all others."""
    sample: SizeOrNone = format_size(DEFAULT_SAMPLE).replace(".0 ", "")
    """How much of what was written is read back in each cycle, and as much of the rest; 0: nothing."""
    tls_ca: LocalPath | None = None
    """CA certificates, in PEM, that the server of nbds:// is known by."""
    tls_cert: LocalPath | None = None
    """Certificate to show to that server, in PEM."""
    tls_key: LocalPath | None = None
    """Its private key; nobody else may be able to read it."""
    tls_psk: LocalPath | None = None
    """File with a pre-shared key instead of certificates: a line USER:HEXKEY."""
    tls_hostname: Text | None = None
    """What the certificate of that server must be for."""
