"""The programs that an installation starts: systemctl, useradd, Python and its pip.

Below another root than `/` nothing is told to this machine: no systemctl, no user, no owner.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ntxengine.deploy.places import Places
from ntxengine.deploy.unit import NAME, NAME_OF_USER, UNIT
from ntxengine.errors import OptionsError, ToolError

NOLOGIN = "/usr/sbin/nologin"
HOMES = (Path("/root"), Path("/home"), Path("/run/user"))
"""What ProtectHome= of the unit hides."""

_TAIL = 3
_STOP_S = 330.0  # TimeoutStopSec of the unit, and a bit
_READABLE = 0o022


def start(command: Sequence[str | Path], what: str, *, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end; return its stdout.  Errors: ToolError, with the end of what it said."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=None if environment is None else {**os.environ, **environment},
            umask=_READABLE,  # root's own may let nobody read what the service has to
        )
    except OSError as exc:
        raise ToolError(f"{what}: {words[0]} cannot be started: {exc.strerror}") from exc
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-_TAIL:])
        raise ToolError(f"{what}: {Path(words[0]).name} ended with {done.returncode}: {said}")
    return done.stdout


class System:
    """This machine, as far as `places` are on it."""

    def __init__(self, places: Places) -> None:
        self._is_real = places.is_this_machine

    @property
    def runs_services(self) -> bool:
        """Whether what is installed can be started: not below another root."""
        return self._is_real

    def check(self) -> None:
        """Errors: OptionsError (not root), ToolError (no systemd that runs)."""
        if not self._is_real:
            return
        if os.geteuid() != 0:
            raise OptionsError("this needs root: run it by sudo, or below another root with --root DIR")
        if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
            raise ToolError("this machine was not booted by systemd, which the service needs: see docs/deploy.md")

    def has_user(self, name: str) -> bool:
        try:
            pwd.getpwnam(name)
        except KeyError:
            return False
        return True

    def group_of(self, name: str) -> str:
        """Return the group of a user: of one that was there its own, of one that is to be made that of its name."""
        if not self._is_real or not self.has_user(name):
            return name
        number = pwd.getpwnam(name).pw_gid
        try:
            group = grp.getgrgid(number).gr_name
        except KeyError:
            return str(number)
        return group if NAME_OF_USER.fullmatch(group) else str(number)  # "domain users"

    def make_user(self, name: str, home: Path) -> bool:
        """Make a user without a password, a shell and a home, unless there is one; return whether it was made."""
        if not self._is_real or self.has_user(name):
            return False
        kind = ["--system", "--user-group", "--no-create-home", "--shell", NOLOGIN]
        start(["useradd", *kind, "--home-dir", home, name], f"making the user {name}")
        return True

    def give_group(self, path: Path, user: str, mode: int) -> None:
        """Let the group of the user read what is root's."""
        os.chmod(path, mode)
        if self._is_real:
            os.chown(path, 0, pwd.getpwnam(user).pw_gid)

    def is_active(self) -> bool:
        if not self._is_real:
            return False
        return subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0

    def is_enabled(self) -> bool:
        """Whether the service starts with the machine."""
        if not self._is_real:
            return False
        command = ["systemctl", "is-enabled", "--quiet", UNIT]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def is_installed(self) -> bool:
        """Whether systemd knows the service."""
        if not self._is_real:
            return False
        return subprocess.run(["systemctl", "cat", UNIT], capture_output=True, check=False).returncode == 0

    def reload_units(self) -> None:
        self._systemctl("daemon-reload", what="reading the units anew")

    def enable(self) -> None:
        self._systemctl("enable", "--quiet", UNIT, what=f"enabling {UNIT}")

    def restart(self) -> None:
        """Stop the service, if it runs, and start it.  Errors: ToolError, with what the agent said."""
        self._systemctl("reset-failed", UNIT, what=f"starting {UNIT}", may_fail=True)
        try:
            self._systemctl("restart", UNIT, what=f"starting {UNIT}")
        except ToolError as exc:
            raise ToolError(f"the agent does not start: {self._said()}") from exc

    def stop(self) -> None:
        self._systemctl("stop", UNIT, what=f"stopping {UNIT}")

    def disable(self) -> None:
        self._systemctl("disable", "--quiet", UNIT, what=f"disabling {UNIT}", may_fail=True)

    def _said(self) -> str:
        command = ["journalctl", "--no-pager", "--output", "cat", "--unit", UNIT, "--lines", "20"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        lines = [line for line in told if "ntx: " in line or " ERROR " in line] or told[-_TAIL:]
        return " | ".join(lines[-_TAIL:]) or f"journalctl -u {NAME} says why"

    def _systemctl(self, *arguments: str, what: str, may_fail: bool = False) -> None:
        if not self._is_real:
            return
        try:
            start(["systemctl", *arguments], what)
        except ToolError:
            if not may_fail:
                raise


def python_for(wanted: str, chosen: Path | None) -> Path:
    """Return the Python that a version is made with: one of the release's version, which the service can reach.

    Errors: OptionsError.
    """
    found = chosen or Path(getattr(sys, "_base_executable", sys.executable))
    try:
        real = found.resolve(strict=True)
    except OSError as exc:
        raise OptionsError(f"--python {found}: {exc.strerror}") from exc
    if any(real.is_relative_to(home) for home in HOMES):
        raise OptionsError(
            f"{real} lies in a home, which the service cannot enter: give another Python, as --python /usr/bin/python3"
        )
    told = start([found, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])"], f"looking at {found}").strip()
    if told != wanted:
        raise OptionsError(f"the wheels are for {_dotted(wanted)}, and {found} is {_dotted(told)}: give it by --python")
    return found


def _dotted(tag: str) -> str:
    return f"Python {tag[2:3]}.{tag[3:]}"
