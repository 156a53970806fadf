"""The argument vector of ssh: nothing of the person's own configuration, no question, no host that is not known.

Without a jump host there is no configuration file.  With one, ssh starts another ssh for it, which is told only which
file to read: so there is one, with the same settings.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ntxengine.concurrency.tied import tied
from ntxengine.errors import MissingProgram
from ntxengine.tunnel.options import SshLogin, SshOptions, as_argument

CONNECT_TIMEOUT_S = 15
ALIVE_INTERVAL_S = 5
ALIVE_COUNT = 3
"""A server that is silent for so many intervals is given up: ssh ends, and is started again."""

_PACKAGES = {"ssh": "openssh-client", "setpriv": "util-linux"}
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "LD_LIBRARY_PATH")
_SETTINGS = {
    "BatchMode": "yes",
    "ExitOnForwardFailure": "yes",
    "StrictHostKeyChecking": "yes",
    "IdentitiesOnly": "yes",
    "PreferredAuthentications": "publickey",
    "UpdateHostKeys": "no",
    "CheckHostIP": "no",
    "ForwardAgent": "no",
    "Compression": "no",
    "IPQoS": "none",
    # First this one, which is the fastest where the processor has AES; then what the two have.
    "Ciphers": "^aes128-gcm@openssh.com",
    "ConnectTimeout": str(CONNECT_TIMEOUT_S),
    "ServerAliveInterval": str(ALIVE_INTERVAL_S),
    "ServerAliveCountMax": str(ALIVE_COUNT),
    "StreamLocalBindMask": "0177",
    "StreamLocalBindUnlink": "yes",
}


def settings(options: SshOptions) -> dict[str, str]:
    """Return ssh's settings by their names."""
    found = dict(_SETTINGS)
    if options.key is not None:
        found["IdentityFile"] = as_argument(options.key)
    if options.known_hosts is not None:
        found |= {"UserKnownHostsFile": as_argument(options.known_hosts), "GlobalKnownHostsFile": "none"}
    return found


def write_configuration(folder: Path, options: SshOptions) -> Path | None:
    """Write what the ssh of a jump host reads, and return its path; None if there is none."""
    if options.jump is None:
        return None
    path = folder / "config"
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.writelines(f"{name} {value}\n" for name, value in settings(options).items())
    return path


def command(login: SshLogin, options: SshOptions, configuration: Path | None, *forward: str) -> list[str]:
    """Return the argument vector of the ssh that forwards as `forward` says; it dies with us.

    LIMIT: that of `tied`.
    Errors: MissingProgram; OptionsError.
    """
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            raise MissingProgram(f"{program} is not installed: install the package {package}")
    return tied(
        "ssh",
        *("-F", "none" if configuration is None else str(configuration)),
        "-T",
        *(f"-o{name}={value}" for name, value in settings(options).items()),
        *(("-J", str(options.jump)) if options.jump else ()),
        *(("-l", login.user) if login.user else ()),
        *("-p", str(login.port)),
        *forward,
        *("--", login.host),
    )


def environment() -> dict[str, str]:
    """Return what ssh may see of our environment: no secret, and messages in English."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"LC_ALL": "C"}
