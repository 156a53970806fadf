"""What a qemu-nbd can serve.  Each kind says by which name qemu opens just that, and which secrets the name refers to.

| kind        | is                                                              | needs of qemu            |
|-------------|-----------------------------------------------------------------|--------------------------|
| `ImageFile` | an image and those below it                                     | nothing more             |
| `IscsiLun`  | a disk that a target offers, read by qemu itself, in user space | its driver for iSCSI     |
| `NfsFile`   | a raw file on an NFS server, read by qemu itself                | its driver for NFS       |
| `RawFile`   | a file or block device, raw whatever its first bytes say        | nothing more             |
| `Embedded`  | a VMDK that is a part of a file of this machine, as in an OVA   | its driver for VMDK      |
| `NbdExport` | what another NBD server gives on a unix socket                  | nothing more             |

The names are JSON: no address, target or path is parsed, whatever is in it.  No secret is in a name; it refers to an
object of qemu, which reads it from memory that it inherits (qemu_nbd.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ntxengine.files.locks import have_locks
from ntxengine.images import qemu_img

_CHAP = "chap"


class Served(Protocol):
    """Something that a qemu-nbd opens."""

    @property
    def label(self) -> str:
        """What messages call it."""
        ...

    @property
    def secrets(self) -> Mapping[str, str]:
        """The secrets that `node` refers to, by their ids."""
        ...

    def node(self) -> str:
        """Return the name by which qemu opens this, and nothing else.  Errors: as qemu_img.node."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """An image.

    `backing` are the images below it, from the nearest to the root, which is in `root_format`: nothing else is opened,
    whatever the image says.
    """

    path: Path
    format: str = "qcow2"
    backing: Sequence[Path] = ()
    root_format: str = "qcow2"
    secrets: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    def node(self) -> str:
        """As Served.node: the whole chain."""
        return qemu_img.node([self.path, *self.backing], format=self.format, root_format=self.root_format)


@dataclass(frozen=True)
class IscsiLun:
    """A disk that an iSCSI target offers, as raw bytes.

    `portal` is `host:port`; `initiator` is the name that we log in by, also the user of CHAP, whose secret is `secret`.
    """

    portal: str
    target: str
    lun: int
    initiator: str
    secret: str = field(repr=False)

    @property
    def label(self) -> str:
        """An address as people write it."""
        return f"iscsi://{self.portal}/{self.target}/{self.lun}"

    @property
    def secrets(self) -> Mapping[str, str]:
        """What CHAP proves us by."""
        return {_CHAP: self.secret}

    def node(self) -> str:
        """As Served.node."""
        return _raw(
            driver="iscsi",
            transport="tcp",
            portal=self.portal,
            target=self.target,
            lun=self.lun,
            **{"initiator-name": self.initiator, "user": self.initiator, "password-secret": _CHAP},
        )


@dataclass(frozen=True)
class NfsFile:
    """A raw file on an NFS server, by version 3; `path` is absolute: its folder is mounted, by the program itself."""

    server: str
    path: str
    secrets: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def label(self) -> str:
        """An address as people write it."""
        return f"nfs://{self.server}{self.path}"

    def node(self) -> str:
        """As Served.node."""
        return _raw(driver="nfs", server={"type": "inet", "host": self.server}, path=self.path)


@dataclass(frozen=True)
class RawFile:
    """A file or a block device of this machine, as raw bytes."""

    path: Path
    secrets: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    def node(self) -> str:
        """As Served.node."""
        locking = {} if have_locks(self.path) else {"locking": "off"}
        driver = "host_device" if self.path.is_block_device() else "file"
        return _raw(driver=driver, filename=qemu_img.absolute(self.path), **locking)


@dataclass(frozen=True)
class Embedded:
    """A streamOptimized VMDK that is `size` bytes of a file of this machine, from `offset` on."""

    path: Path
    offset: int
    size: int
    secrets: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    def node(self) -> str:
        """As Served.node."""
        file = {"driver": "file", "filename": qemu_img.absolute(self.path), "locking": "off"}
        part = {"driver": "raw", "offset": self.offset, "size": self.size, "file": file}
        return "json:" + json.dumps({"driver": "vmdk", "file": part})


@dataclass(frozen=True)
class NbdExport:
    """The export of an NBD server on a unix socket of this machine, as raw bytes."""

    socket: Path
    export: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def label(self) -> str:
        """The socket."""
        return str(self.socket)

    def node(self) -> str:
        """As Served.node."""
        return _raw(driver="nbd", server={"type": "unix", "path": str(self.socket)}, export=self.export)


def _raw(**file: object) -> str:
    return "json:" + json.dumps({"driver": "raw", "file": file})
