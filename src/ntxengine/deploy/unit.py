"""The unit of systemd and its drop-ins, as text: the templates in files/, with paths and names filled in.

What is filled in is quoted, and `%` doubled, so that a path is a path whatever its characters are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ntxengine.deploy.needs import Needs
from ntxengine.errors import OptionsError

NAME = "ntx-agent"
UNIT = f"{NAME}.service"
DROP_INS = f"{UNIT}.d"
FOLDERS = "10-ntx-folders.conf"
ATTACHED_DISKS = "20-ntx-attached-disks.conf"

_PLACES = re.compile(r"@(ntx|config|environment|user|group)@")
NAME_OF_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_PLAIN = re.compile(r"[A-Za-z0-9/._+:@,-]+")


@dataclass(frozen=True)
class Filled:
    """What the template is filled with."""

    ntx: Path
    """The program, by an absolute path that stays the same over upgrades."""
    config: Path
    user: str = NAME.partition("-")[0]
    group: str = ""
    """A name or a number; that of the user's name, if none is given."""
    environment: Path = Path("/etc/ntx/environment")
    """File of variables that the configuration may name; it need not be there."""


def unit_text(filled: Filled) -> str:
    """Return the unit.  Errors: OptionsError (a path that no unit can name; no name of a user)."""
    check_user(filled.user)
    values = {
        "ntx": _quoted(filled.ntx),
        "config": _quoted(filled.config),
        "environment": _quoted(filled.environment),
        "user": filled.user,
        "group": filled.group or filled.user,
    }
    return _PLACES.sub(lambda found: values[found[1]], _template(UNIT))


def drop_ins(needs: Needs) -> dict[str, str]:
    """Return the drop-ins that a configuration needs, by name.  Errors: OptionsError (a path that no unit can name)."""
    found = {}
    if needs.to_write:
        # "-": a folder that is not there when the service starts is a problem of its runs, not of the service.
        lines = [f"ReadWritePaths={_quoted(folder, before='-')}" for folder in needs.to_write]
        head = "# Folders that the configuration names: the agent may write there.  Written by `ntx agent install`."
        found[FOLDERS] = "\n".join([head, "", "[Service]", *lines, ""])
    if needs.has_attached_disks:
        found[ATTACHED_DISKS] = _template(ATTACHED_DISKS)
    return found


def check_user(name: str) -> None:
    """Errors: OptionsError."""
    if not NAME_OF_USER.fullmatch(name):
        raise OptionsError(f"{name!r} is no name of a user: small letters, digits, _ and -, at most 31")


def _template(name: str) -> str:
    return (resources.files("ntxengine.deploy") / "files" / name).read_text(encoding="utf-8")


def _quoted(path: Path, before: str = "") -> str:
    """Return a path as one word of a unit."""
    text = str(path)
    if not path.is_absolute():
        raise OptionsError(f"{text} is no absolute path: systemd knows no folder that it could begin at")
    if not text.isprintable():
        raise OptionsError(f"{text!r}: a unit cannot name a path with such characters")
    text = before + text.replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
