"""What a guest needs to start on its target is said."""

from __future__ import annotations

import dataclasses
import shlex

from ntxengine.machines import DefinitionOptions, Disk, Nic, for_kvm, for_vmware
from tests.machines.entities import EVERYTHING, MACHINE, SYSTEM

LINUX = dataclasses.replace(MACHINE, guest_os="Debian GNU/Linux 12")
WINDOWS = dataclasses.replace(MACHINE, guest_os="Microsoft Windows Server 2022")


def test_a_guest_with_virtio_needs_nothing_on_kvm() -> None:
    advice = for_kvm(MACHINE, "/replicas/db01.xml")

    assert advice.commands == ()
    assert "needs no other drivers" in advice.sentences[0]


def test_emulated_devices_bring_the_commands_of_virt_v2v() -> None:
    advice = for_kvm(EVERYTHING, "/the replicas/db01.xml")

    assert [shlex.split(command)[0] for command in advice.commands] == ["virt-v2v-in-place", "virt-v2v"]
    assert all("/the replicas/db01.xml" in shlex.split(command) for command in advice.commands)
    assert any("never on a replica that follows" in sentence for sentence in advice.sentences)
    assert any("ide.0" in sentence for sentence in advice.sentences)


def test_linux_gets_its_modules_into_the_initramfs_for_vmware() -> None:
    advice = for_vmware(LINUX, DefinitionOptions())

    assert advice.commands[0] == "dracut --force --regenerate-all --add-drivers 'vmw_pvscsi vmxnet3'"
    assert "vmw_pvscsi\\nvmxnet3" in advice.commands[1]
    assert any("virt-v2v converts to KVM, not to VMware" in sentence for sentence in advice.sentences)


def test_modules_are_those_of_the_controller_that_was_asked_for() -> None:
    machine = dataclasses.replace(LINUX, disks=(Disk(SYSTEM, "sata", 0, 512),), nics=(Nic(model="e1000"),))

    assert "'mptspi vmxnet3'" in for_vmware(LINUX, DefinitionOptions(scsi_controller="lsilogic")).commands[0]
    assert "'ahci e1000'" in for_vmware(machine, DefinitionOptions()).commands[0]


def test_windows_is_told_to_start_its_own_driver() -> None:
    advice = for_vmware(WINDOWS, DefinitionOptions())

    [command] = advice.commands
    assert command.startswith(r"reg add HKLM\SYSTEM\CurrentControlSet\Services\LSI_SAS ")


def test_windows_without_a_driver_for_a_controller_is_told_so() -> None:
    advice = for_vmware(WINDOWS, DefinitionOptions(scsi_controller="pvscsi"))

    assert advice.commands == ()
    assert any("take the controller lsisas1068" in sentence for sentence in advice.sentences)


def test_a_machine_without_devices_needs_nothing() -> None:
    assert for_vmware(dataclasses.replace(MACHINE, disks=(), nics=()), DefinitionOptions()).sentences == ()
