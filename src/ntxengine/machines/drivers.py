"""What drivers a guest needs to start on its target, in sentences, and the commands that help.

| target | disks                        | network cards       | a guest of AHV                                        |
|--------|------------------------------|---------------------|-------------------------------------------------------|
| KVM    | virtio-scsi, virtio-blk, ... | virtio, e1000       | has them: AHV is KVM                                  |
| VMware | pvscsi, LSI SAS, AHCI, IDE   | vmxnet3, e1000(e)   | has them if they are in its initramfs, or in Windows  |

What was tried: virt-v2v 2.2.0 reads the libvirt definition (`--print-source`), disks and cards as they are meant; a
conversion was not run.  The commands for guests are those of their makers, and were not run on VMware.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ntxengine.machines import vmware
from ntxengine.machines.definition import DefinitionOptions, placed
from ntxengine.machines.model import Machine

_MODULES = {"pvscsi": "vmw_pvscsi", "lsilogic": "mptspi", "lsisas1068": "mptsas"}
_SCSI_NAMES = {"pvscsi": "pvscsi", "lsilogic": "LSI Logic", "lsisas1068": "LSI Logic SAS"}


@dataclass(frozen=True)
class DriverAdvice:
    """What is to be known before a machine is started on its target: sentences, and commands to run where they say."""

    sentences: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def for_kvm(machine: Machine, definition: str) -> DriverAdvice:
    """Return what a guest needs on KVM; `definition` is the path of its libvirt XML."""
    old = [disk.label for disk in machine.disks if disk.bus in ("ide", "sata")]
    old += [f"NIC {nic.label}" for nic in machine.nics if nic.model == "e1000"]
    sentences = ["KVM gives the guest the kinds of devices that it has on AHV: it needs no other drivers"]
    if not old:
        return DriverAdvice(tuple(sentences))
    sentences.append(
        f"{', '.join(old)}: emulated, and slow; virt-v2v puts virtio drivers into the guest where it has none.  It "
        f"writes to the disks: run it on the machine that was cut over, or on a copy, never on a replica that follows. "
        f"That it reads the definition was tried, the conversion was not"
    )
    path = shlex.quote(definition)
    return DriverAdvice(
        tuple(sentences),
        (
            f"virt-v2v-in-place -i libvirtxml {path}",
            f"virt-v2v -i libvirtxml {path} -o local -os DIRECTORY",
        ),
    )


def for_vmware(machine: Machine, options: DefinitionOptions) -> DriverAdvice:
    """Return what a guest needs on VMware.  It is to be done while it still runs on AHV."""
    buses = {bus for _, bus, _, _ in vmware.place_disks(machine.disks, [])}
    controller = vmware.controller_of(machine, options)
    cards = sorted({vmware.nic_type(machine, card) for card in placed(machine, options)})
    devices = [_SCSI_NAMES[controller]] * ("scsi" in buses) + ["AHCI"] * ("sata" in buses) + cards
    if not devices:
        return DriverAdvice()
    sentences = [
        f"VMware gives the guest other devices than AHV: it needs drivers for {', '.join(devices)} when it starts",
        "virt-v2v converts to KVM, not to VMware: the drivers are put into the guest while it runs on AHV, before the "
        "last cycle of the replication; try it with a test cutover",
    ]
    if machine.guest_family == "windows":
        return _for_windows(sentences, controller, "scsi" in buses)
    modules = [_MODULES[controller]] * ("scsi" in buses) + ["ahci"] * ("sata" in buses) + cards
    return _for_linux(sentences, modules)


def _for_linux(sentences: Sequence[str], modules: Sequence[str]) -> DriverAdvice:
    told = (
        *sentences,
        "in a Linux guest with dracut (RHEL, SUSE, Fedora) they are put into its initramfs by the first command, with "
        "initramfs-tools (Debian, Ubuntu), which holds them unless MODULES=dep is set, by the second",
        "names of network interfaces may change with the place of the card: look at what names them in the guest",
    )
    names = " ".join(modules)
    lines = r"\n".join(modules)
    return DriverAdvice(
        told,
        (
            f"dracut --force --regenerate-all --add-drivers '{names}'",
            f"printf '{lines}\\n' >> /etc/initramfs-tools/modules && update-initramfs -u -k all",
        ),
    )


def _for_windows(sentences: Sequence[str], controller: str, has_scsi: bool) -> DriverAdvice:
    told = [
        *sentences,
        "Windows has drivers of its own for LSI Logic SAS, AHCI and e1000e; VMware Tools are put on later",
    ]
    commands = []
    if has_scsi and controller == "lsisas1068":
        told.append(
            "Windows starts that of the disks it boots from only if it is told to: the command does, in the guest"
        )
        commands.append(r"reg add HKLM\SYSTEM\CurrentControlSet\Services\LSI_SAS /v Start /t REG_DWORD /d 0 /f")
    elif has_scsi:
        told.append(
            f"it has none for {_SCSI_NAMES[controller]}: take the controller lsisas1068, or put the driver in first"
        )
    return DriverAdvice(tuple(told), tuple(commands))
