"""Which consistency to ask for, and by which means the guest is made consistent.

Only what Prism says is a no keeps us from asking for application consistency; where it is silent the cluster tells, by
the type of the recovery point that it makes, or by failing, what the guest could do.
"""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.capture.options import CaptureOptions, ConsistencyChoice
from ntxengine.errors import NtxError, OptionsError
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import Consistency, Vm, VssBackup

_VSS_SAYS = {"copy": "a copy backup", "full": "a full backup, after which databases cut their logs"}


@dataclass(frozen=True)
class Quiescing:
    """What to ask for, and why it is not application consistency ("" if it is, or was not wanted).

    `vss` is what VSS is told, None where nothing is sent; `how` is how the guest is made consistent, for people.
    """

    consistency: Consistency
    reason: str = ""
    vss: VssBackup | None = None
    how: str = ""


def choose_quiescing(prism: RecoveryPoints, vm: Vm, options: CaptureOptions) -> Quiescing:
    """Decide what to ask for.

    Errors: NtxError if `app` was demanded and Guest Tools cannot; OptionsError if the kind of VSS backup was chosen and
            this Prism knows no such choice.
    """
    consistency, reason = choose_consistency(vm, options.consistency)
    if consistency == "crash":
        return Quiescing(consistency, reason)
    vss = _vss(prism, vm, options.vss)
    return Quiescing(consistency, "", vss, _how(vm, vss) + _silence(vm))


def choose_consistency(vm: Vm, choice: ConsistencyChoice) -> tuple[Consistency, str]:
    """Return what to ask for, and why it is not application consistency ("" if it is, or was not wanted).

    Errors: NtxError if `app` was demanded and Guest Tools cannot.
    """
    if choice == "crash":
        return "crash", ""
    reason = _obstacle(vm)
    if not reason:
        return "application", ""
    if choice == "app":
        raise NtxError(
            f"VM {vm.name!r} ({vm.id}) cannot be captured application-consistent: {reason}; nothing was captured; "
            f"--consistency auto takes what is possible"
        )
    return "crash", reason


def can_be_application_consistent(vm: Vm) -> tuple[bool | None, str]:
    """Return whether an application-consistent point of the VM is possible, and why not.

    None where Prism does not say all that decides it, with what it does not say: the cluster would tell.
    """
    if reason := _obstacle(vm):
        return False, reason
    silent = _unsaid(vm)
    return (None, f"Prism does not say whether the VM {', '.join(silent)}") if silent else (True, "")


def _obstacle(vm: Vm) -> str:
    """Return what Prism says that makes an application-consistent point impossible, "" if nothing."""
    if vm.power_state in ("off", "paused"):
        return f"the VM is {vm.power_state}, not on"
    return vm.guest_tools.obstacle


def _vss(prism: RecoveryPoints, vm: Vm, choice: VssBackup) -> VssBackup | None:
    if vm.guest_tools.os == "linux":
        return None
    if prism.can_choose_vss:
        return choice
    if choice == "full":
        raise OptionsError(
            f"VM {vm.name!r} ({vm.id}): --vss full cannot be had: only v4 lets the kind of a VSS backup be chosen, and "
            f"this Prism is spoken to by v3; leave --vss out, or capture through a Prism Central that has v4"
        )
    return None


def _how(vm: Vm, vss: VssBackup | None) -> str:
    system = vm.guest_tools.os
    if system == "linux":
        return "Guest Tools freeze the file systems between the guest's scripts (Linux: VSS is told nothing)"
    if vss is None:
        kind = "VSS" if system == "windows" else "Guest Tools, the guest's system is not known:"
        return f"{kind} as the cluster is set up: v3 lets nobody choose between a copy and a full backup"
    if system == "windows":
        return f"VSS makes {_VSS_SAYS[vss]}"
    return (
        f"the guest's system is not known, so VSS is told to make {_VSS_SAYS[vss]}: that is meant for Windows alone, "
        f"and without it Windows would make a full backup"
    )


def _silence(vm: Vm) -> str:
    silent = _unsaid(vm)
    return f"; Prism does not say whether the VM {', '.join(silent)}: the cluster will tell" if silent else ""


def _unsaid(vm: Vm) -> list[str]:
    tools = vm.guest_tools
    unsaid = {
        "is on": vm.power_state == "unknown",
        "has Guest Tools": tools.installed is None,
        "has enabled them": tools.enabled is None,
        "can reach them": tools.reachable is None,
        "can quiesce": tools.can_quiesce is None,
    }
    return [what for what, is_unsaid in unsaid.items() if is_unsaid]
