"""Storage containers over NFS: one nfs-ganesha, with the rpcbind that says where it is.

    /<container>        what the cluster exports it as; below it is STATE/containers/<container>
    STATE/nfs/          its configuration, and what it says

It listens on every address of this machine, TCP 111 and 2049, so it is started only where that is asked for, by root,
and best in a network namespace of its own (`unshare --net`).  It has a /run of its own, and the kernel kills both
programs when we die.  Who may mount a container is what the cluster tells as its allow-list; an empty one lets nobody
in.
"""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ntxengine.errors import OptionsError
from ntxengine.sim.daemon import ENVIRONMENT, Daemon, absent

_PROGRAMS = {
    "ganesha.nfsd": "nfs-ganesha and nfs-ganesha-vfs",
    "rpcbind": "rpcbind",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
# rpcbind changes its user, which makes the kernel forget with whom it is to end: both are in a namespace that ends.
_SCRIPT = """mount -t tmpfs none /run && mkdir -p /run/rpcbind /run/ganesha || exit 1
rpcbind -f -w &
until [ -S /run/rpcbind.sock ]; do sleep 0.01; done
exec ganesha.nfsd -F -f "$0/ganesha.conf" -L "$0/log" -p "$0/pid"
"""
_READY = "NFS SERVER INITIALIZED"
_START_TIMEOUT_S = 30.0

_CONFIGURATION = """NFS_CORE_PARAM {
    Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; NLM_Port = 20049; Rquota_Port = 20050;
    Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; mount_path_pseudo = true;
}
NFS_KRB5 { Active_krb5 = false; }
NFSv4 { Graceless = true; RecoveryRoot = "%s"; }
LOG { Default_Log_Level = EVENT; }
"""
_EXPORT = """EXPORT {
    Export_Id = %d; Path = "%s"; Pseudo = "/%s"; Access_Type = NONE; Squash = No_Root_Squash;
    Protocols = 3; Transports = TCP; SecType = sys; PrivilegedPort = false; FSAL { Name = VFS; }
    %s
}
"""


@dataclass(frozen=True)
class NfsContainer:
    """A storage container: its name, its folder, and the clients that may mount it, as `address/netmask`."""

    name: str
    folder: Path
    allowed: Sequence[str]


class NfsServer:
    """nfs-ganesha and rpcbind, between `start` and `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemon = Daemon(folder)

    async def start(self, containers: Sequence[NfsContainer]) -> None:
        """Serve the containers; return when that works.  Errors: OptionsError with what is missing or wrong."""
        if packages := absent(_PROGRAMS):
            raise OptionsError(f"simulator: containers cannot be served over NFS: install {packages}")
        if os.geteuid() != 0:
            raise OptionsError("simulator: only root can serve containers over NFS")
        (self._folder / "recovery").mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "ganesha.conf").write_text(_configuration(self._folder, containers), encoding="utf-8")
        command = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", _SCRIPT, str(self._folder))
        if not await self._daemon.start(
            *command, environment=ENVIRONMENT, is_ready=self._is_ready, timeout_s=_START_TIMEOUT_S
        ):
            raise OptionsError(f"simulator: NFS does not start: {self._daemon.said()[-1]}")

    async def stop(self) -> None:
        """End both, and wait until they are gone: nobody's data are with them.

        Beside a port 111 that is still taken the next rpcbind comes up all the same, and nobody reaches it.
        """
        if self._daemon.pid is not None and _kill_children(self._daemon.pid):
            await self._daemon.ended()  # unshare ends last, once its namespace is empty
        await self._daemon.kill()

    async def _is_ready(self) -> bool:
        return any(_READY in line for line in self._daemon.said())


def _kill_children(pid: int) -> bool:
    """Kill what a process has started; say whether there was anything."""
    with suppress(OSError):  # it has ended by itself
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        return bool(children)
    return False


def _configuration(folder: Path, containers: Sequence[NfsContainer]) -> str:
    exports = (
        _EXPORT % (number, container.folder, container.name, _clients(container.allowed))
        for number, container in enumerate(containers, 1)
    )
    return _CONFIGURATION % (folder / "recovery") + "".join(exports)


def _clients(allowed: Sequence[str]) -> str:
    networks = (ipaddress.ip_network(client, strict=False).with_prefixlen for client in allowed)
    return "".join(f"CLIENT {{ Clients = {network}; Access_Type = RW; }}" for network in networks)
