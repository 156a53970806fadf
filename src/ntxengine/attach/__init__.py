"""How the bytes of a disk recovery point become readable on this machine.

base.py         what an attacher is, and the checks that all share
container.py    storage containers mounted here (NFS): the snapshot's file
hotadd.py       this machine is a VM of the cluster: a clone is hot-added to it
"""

from ntxengine.attach.base import Attacher
from ntxengine.attach.container import ContainerMount
from ntxengine.attach.hotadd import HotAdd

__all__ = ["Attacher", "ContainerMount", "HotAdd"]
