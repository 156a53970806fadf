"""A machine in neutral words, read from Prism's entity, and written for other platforms.  Nothing here does I/O.

vm = read_machine(prism_vm.config, prism_vm.disks)
writer("libvirt").write(vm, files, DefinitionOptions(networks=NetworkMap.parse(["*=network:default"])))
"""

from ntxengine.machines.definition import (
    Definition,
    DefinitionOptions,
    DefinitionWriter,
    DiskFile,
    DiskFormat,
    ScsiController,
)
from ntxengine.machines.drivers import DriverAdvice, for_kvm, for_vmware
from ntxengine.machines.model import BootEntry, Cpu, Disk, Machine, Nic
from ntxengine.machines.networks import Network, NetworkMap, parse_network
from ntxengine.machines.reading import read_machine
from ntxengine.machines.registry import WRITERS, writer
from ntxengine.machines.text import reduced

__all__ = [
    "WRITERS",
    "BootEntry",
    "Cpu",
    "Definition",
    "DefinitionOptions",
    "DefinitionWriter",
    "Disk",
    "DiskFile",
    "DiskFormat",
    "DriverAdvice",
    "Machine",
    "Network",
    "NetworkMap",
    "Nic",
    "ScsiController",
    "for_kvm",
    "for_vmware",
    "parse_network",
    "read_machine",
    "reduced",
    "writer",
]
