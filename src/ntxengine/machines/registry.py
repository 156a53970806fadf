"""The platforms that a definition can be written for.  A new one is a class, and a row here."""

from __future__ import annotations

from ntxengine.machines.definition import DefinitionWriter
from ntxengine.machines.libvirt import LibvirtWriter
from ntxengine.machines.ovf import OvfWriter
from ntxengine.machines.vmx import VmxWriter

WRITERS: dict[str, DefinitionWriter] = {one.name: one for one in (LibvirtWriter(), VmxWriter(), OvfWriter())}


def writer(name: str) -> DefinitionWriter:
    """Return the writer of a platform: `libvirt`, `vmx` or `ovf`."""
    return WRITERS[name]
