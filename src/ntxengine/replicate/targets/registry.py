"""The targets that there are: a new one adds a file, and a row."""

from __future__ import annotations

from ntxengine.errors import OptionsError
from ntxengine.replicate.targets.base import Target, TargetOptions
from ntxengine.replicate.targets.kvm import KvmTarget
from ntxengine.replicate.targets.nbd import NbdTarget
from ntxengine.replicate.targets.ova import OvaTarget
from ntxengine.replicate.targets.vhd import VhdTarget
from ntxengine.replicate.targets.vmware import VmwareTarget

TARGETS: dict[str, type[Target]] = {
    "kvm": KvmTarget,
    "vmware": VmwareTarget,
    "ovf": OvaTarget,
    "vhd": VhdTarget,
    "nbd": NbdTarget,
    "nbds": NbdTarget,
    "nbd+unix": NbdTarget,
}
"""By what the text begins with."""


def target_of(text: str, options: TargetOptions | None = None) -> Target:
    """Return the target that a text names: `kvm:DIR`, `vmware:DIR`, `nbd://HOST/{disk}`, several `LABEL=nbd://...`.

    Errors: OptionsError.
    """
    first = text.split()[0] if text.split() else ""
    label, equals, rest = first.partition("=")
    scheme = (rest if equals and ":" not in label else first).partition(":")[0]
    try:
        kind = TARGETS[scheme]
    except KeyError:
        raise OptionsError(
            f"{text!r}: is no target of a replica: write kvm:DIR, vmware:DIR, ovf:DIR, vhd:DIR, or nbd://HOST/{{disk}}"
        ) from None
    return kind(text, options or TargetOptions())
