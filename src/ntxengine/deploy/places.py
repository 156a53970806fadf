"""Where everything of an installation lies.

    PREFIX/current -> versions/VERSION-DIGEST     the version that is used: the unit starts PREFIX/current/bin/ntx
    PREFIX/versions/VERSION-DIGEST/               a venv; DIGEST is that of the release's list of checksums
    PREFIX/installed.json                         what was written (written.py)
    /etc/systemd/system/ntx-agent.service, .d/    the unit and the drop-ins of the configuration
    /etc/ntx/agent.yaml                           the configuration; /etc/ntx/environment, if there is one
    /var/lib/ntx, /run/ntx                        made by systemd

With another root (`--root DIR`) all of it lies below DIR, and the texts say what it will be called from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ntxengine.deploy.needs import STATE_OF_UNIT
from ntxengine.deploy.unit import DROP_INS, UNIT

PREFIX = Path("/opt/ntx")
CONFIG = Path("/etc/ntx/agent.yaml")
ENVIRONMENT = Path("/etc/ntx/environment")
CREDENTIALS = Path("/etc/credstore")
COMMAND = Path("/usr/local/bin/ntx")
UNITS = Path("/etc/systemd/system")
LOCK = "install.lock"
KEPT = "agent.yaml.before"
"""The configuration that the last one took the place of, beside it."""


@dataclass(frozen=True)
class Places:
    """`prefix` as it is called in the root; `at()` says where a path of the root is here."""

    root: Path = Path("/")
    prefix: Path = PREFIX
    state: Path = STATE_OF_UNIT

    def at(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    @property
    def is_this_machine(self) -> bool:
        return self.root == Path("/")

    @property
    def versions(self) -> Path:
        return self.prefix / "versions"

    @property
    def current(self) -> Path:
        return self.prefix / "current"

    @property
    def ntx(self) -> Path:
        return self.current / "bin" / "ntx"

    @property
    def written(self) -> Path:
        return self.prefix / "installed.json"

    @property
    def unit(self) -> Path:
        return UNITS / UNIT

    @property
    def drop_ins(self) -> Path:
        return UNITS / DROP_INS
