"""Programs that know the forms of definitions, and did not write them.

| form    | judge                                                                                     |
|---------|-------------------------------------------------------------------------------------------|
| libvirt | virt-xml-validate (its schema), virsh on libvirt's test driver (what the schema lacks)    |
| VMX     | libvirt's reader of VMX: its VMware driver wants a `vmrun` that says a version, no more   |
| OVF     | xmllint (well-formed); references and items are followed by a reader of our own           |
"""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.support.servers import require

_VMRUN = "#!/bin/sh\necho 'VMware Player 17.0.0 build-20800274'\n"


def _run(*command: str | Path, path: str = "") -> str:
    """Run a program and return what it prints; if it fails, that is the failure."""
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    if path:
        environment["PATH"] = f"{path}:{environment.get('PATH', os.defpath)}"
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}{done.stdout}"
    return done.stdout


def libvirt_takes(text: str, folder: Path) -> ET.Element:
    """Return the domain as libvirt stores it, after its schema and its test driver took it."""
    require("virt-xml-validate", "virsh")
    path = folder / "domain.xml"
    path.write_text(text, encoding="utf-8")
    _run("virt-xml-validate", path, "domain")
    domain = ET.fromstring(text)
    domain.set("type", "test")
    path.write_text(ET.tostring(domain, encoding="unicode"), encoding="utf-8")
    # A connection of the test driver lives as long as virsh: both commands go through one.
    name = domain.findtext("uuid", "")
    printed = _run("virsh", "-q", "-c", "test:///default", f"define {path}; dumpxml --inactive {name}")
    return ET.fromstring(printed[printed.index("<domain") :])


def libvirt_reads_vmx(text: str, folder: Path) -> ET.Element:
    """Return what libvirt makes of a VMX."""
    require("virsh")
    tools = folder / "vmware"
    tools.mkdir(exist_ok=True)
    for name in ("vmrun", "vmplayer"):
        (tools / name).write_text(_VMRUN)
        (tools / name).chmod(0o755)
    path = folder / "machine.vmx"
    path.write_text(text, encoding="utf-8", newline="")
    command = ("virsh", "-c", "vmwareplayer:///session", "domxml-from-native", "vmware-vmx", str(path))
    return ET.fromstring(_run(*command, path=str(tools)))


def xml_is_well_formed(text: str, folder: Path) -> None:
    """Fail if libxml2 cannot read it."""
    require("xmllint")
    path = folder / "envelope.ovf"
    path.write_text(text, encoding="utf-8")
    _run("xmllint", "--noout", "--nonet", path)
