"""Where replicas are kept.

base.py      what a target is                    registry.py   which there are
folder.py    a folder, with one for each VM      kvm.py        raw and QCOW2 files for KVM
raw.py       a raw file as a place               qcow2.py      overlays as places
nbd.py       exports of NBD servers              definition.py  what describes the machine
vmware.py    flat VMDKs, VMX                     ova.py         one OVA, made once
vhd.py       fixed VHDs, made once
"""

from ntxengine.replicate.targets.base import Target, TargetOptions
from ntxengine.replicate.targets.registry import target_of

__all__ = ["Target", "TargetOptions", "target_of"]
