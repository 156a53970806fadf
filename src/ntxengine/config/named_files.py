"""The files that a configuration names, looked at before they are needed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from ntxengine.config.file import Config
from ntxengine.config.part import Part
from ntxengine.config.problems import KeyPath, Problem
from ntxengine.config.reading import Loaded
from ntxengine.errors import OptionsError
from ntxengine.files.secret_file import read_secret_file

_SECRETS = ("password_file", "api_key_file", "element_password_file", "token_file")
_FILES = ("ca_file", "element_ca_file", "ssh_key_path", "known_hosts", "tls_ca", "tls_cert", "tls_key", "tls_psk")


def look_at_files(loaded: Loaded) -> list[Problem]:
    """Return a warning for each file that is not there, cannot be read, or that others can read."""
    found = [
        Problem(path, message, loaded.document.mark(path), is_warning=True)
        for path, key, name in _named(loaded.config)
        if (message := _complaint(key, name))
    ]
    exposed = exposed_secret(loaded)
    return found if exposed is None else [exposed, *found]


def exposed_secret(loaded: Loaded) -> Problem | None:
    """Return a warning if the file itself holds a secret, and everybody on this machine can read it."""
    try:
        mode = os.stat(loaded.name).st_mode
    except (OSError, ValueError):
        return None
    held = [path for path in _secrets(loaded.config) if path not in loaded.document.raw]
    if not mode & stat.S_IROTH or not held:
        return None
    message = f"this file can be read by every user of this machine: chmod 600 {loaded.name}"
    return Problem(held[0], message, loaded.document.mark(held[0]), is_warning=True)


def _secrets(config: Config) -> Iterator[KeyPath]:
    """Yield where the file has secrets."""
    parts: list[tuple[KeyPath, Part]] = [(("nutanix",), config.nutanix)]
    parts += [(("profiles", name, "nutanix"), profile.nutanix) for name, profile in config.profiles.items()]
    parts += [(("jobs", number, "pings"), job.pings) for number, job in enumerate(config.jobs)]
    for path, part in parts:
        for key, value in part:
            if isinstance(value, SecretStr):
                yield (*path, key)


def _named(config: Config) -> Iterator[tuple[KeyPath, str, str]]:
    parts: list[tuple[KeyPath, Part]] = [
        (("nutanix",), config.nutanix),
        (("tunnel",), config.tunnel),
        (("agent", "metrics"), config.agent.metrics),
    ]
    parts += [(("profiles", name, "nutanix"), profile.nutanix) for name, profile in config.profiles.items()]
    parts += [
        (("jobs", number, "replicate"), job.replicate)
        for number, job in enumerate(config.jobs)
        if job.replicate is not None
    ]
    for path, part in parts:
        for key, value in part:
            if key in (*_SECRETS, *_FILES) and isinstance(value, str):
                yield (*path, key), key, value


def _complaint(key: str, name: str) -> str:
    path = Path(name)
    try:
        # Whoever checks a file may not be who runs the agent: a folder that only that one may enter is no mistake.
        if not os.path.lexists(path):
            return f"{name} is not on this machine"
        return read_secret_file(path, "the file").warning if key in _SECRETS else ""
    except OptionsError as exc:
        return str(exc)
