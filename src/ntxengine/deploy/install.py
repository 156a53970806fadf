"""An installation from a release folder: a version beside those that are there, then one switch, or none.

    look      checksums, Python, configuration, what the agent remembers      changes nothing
    prepare   user, folders, a venv of its own                                the old version runs on
    switch    configuration, unit, link, and the start of the service         undone, if the new version does not start
    tidy      versions but this one and the one before

Whatever fails before the switch leaves the old version as it was.  What fails in it puts back the link, the unit and
the configuration, and starts the old version again.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.deploy import versions
from ntxengine.deploy.configuration import Chosen, check_state, choose, environment_of
from ntxengine.deploy.places import COMMAND, CONFIG, CREDENTIALS, KEPT, LOCK, Places
from ntxengine.deploy.put import Putter
from ntxengine.deploy.release import Release
from ntxengine.deploy.system import System, python_for, start
from ntxengine.deploy.unit import Filled, drop_ins, unit_text
from ntxengine.deploy.written import Written, read_written
from ntxengine.errors import NtxError
from ntxengine.files.durable import make_folder, write_error
from ntxengine.files.lock_file import LockFile

log = logging.getLogger(__name__)

FOLDER_MODE, CONFIG_MODE, CREDENTIALS_MODE = 0o755, 0o640, 0o700


@dataclass(frozen=True)
class InstallOptions:
    """How to install."""

    config: Path | None = None
    user: str = "ntx"
    python: Path | None = None
    start: bool = True
    """Start the service at the end, if its configuration is filled in."""


@dataclass
class InstallReport:
    """What an installation did, or would do."""

    version: str
    before: str | None
    """The version that was used, None for a first installation."""
    changes: list[str] = field(default_factory=list)
    """In words, in their order; empty: everything is as it should be."""
    is_started: bool = False
    to_do: list[str] = field(default_factory=list)
    """What is left to a person."""


class Installation:
    """One installation."""

    def __init__(
        self,
        places: Places,
        release: Release,
        options: InstallOptions,
        system: System | None = None,
        fill: versions.Fill = versions.fill_venv,
    ) -> None:
        self._fill = fill
        self._places = places
        self._release = release
        self._options = options
        self._system = system or System(places)
        self._version = versions.path_of(places, release)
        self._group: str
        self._texts: dict[Path, str]
        self._chosen: Chosen

    def look(self) -> InstallReport:
        """Return what would be done.  Errors: OptionsError, ConfigError, StateError, ToolError."""
        places = self._places
        self._system.check()
        written = read_written(places)
        before = versions.current(places) if written is None else _before(places, written)
        python_for(self._release.python, self._options.python)
        self._chosen = choose(places, self._release, self._options.config)
        check_state(places, self._chosen.state, self._release.version)
        self._group = self._system.group_of(self._options.user)
        filled = Filled(places.ntx, CONFIG, self._options.user, self._group)
        self._texts = {places.unit: unit_text(filled)}
        self._texts |= {places.drop_ins / name: text for name, text in drop_ins(self._chosen.needs).items()}
        report = InstallReport(self._release.version, None if before is None else before.name)
        report.changes = list(self._changes())
        if written is not None and written.switching_from is not None:
            report.changes.append("start the service anew: an installation was cut short")
        report.to_do = list(self._to_do())
        return report

    def run(self) -> InstallReport:
        """Do it.  Errors: as look(); LockedError (another installation); TargetError."""
        self._system.check()
        make_folder_for_all(self._places.at(self._places.prefix))
        lock = LockFile(self._places.at(self._places.prefix / LOCK), "the installation")
        lock.acquire()
        try:
            report = self.look()
            written = read_written(self._places) or Written(self._places)
            written.note_folder(self._places.prefix)
            self._prepare(written)
            used, before = versions.current(self._places), _before(self._places, written)
            report.is_started = self._switch(written, before, has_changes=bool(report.changes))
            for old in versions.old_versions(self._places, written, self._version, used, before):
                versions.remove_version(self._places, old, written)
            return report
        except OSError as exc:  # of the modes, owners and folders that are changed on the way
            raise write_error(exc.filename or self._places.prefix, "installing", exc) from exc
        finally:
            lock.release()

    def _changes(self) -> list[str]:
        """Say what is not as it should be."""
        places, options = self._places, self._options
        found = []
        if places.is_this_machine and not self._system.has_user(options.user):
            found.append(f"make the user {options.user}")
        if not versions.is_whole(places, self._version):
            found.append(f"make {self._version}, with its own Python modules")
        if _content(places.at(CONFIG)) != self._chosen.data:
            kept = f"; what is there is kept as {CONFIG.parent / KEPT}" if places.at(CONFIG).exists() else ""
            found.append(f"write {CONFIG}, from {self._chosen.where}{kept}")
        for path, text in self._texts.items():
            if _content(places.at(path)) != text.encode():
                found.append(f"write {path}")
        found += [f"remove {path}, which nothing needs any more" for path in self._stale()]
        if versions.current(places) != self._version:
            found.append(f"use it: {places.current} -> {self._version.relative_to(places.prefix)}")
        return found

    def _stale(self) -> list[Path]:
        """Return drop-ins that we wrote, and that the configuration does not need any more."""
        written = read_written(self._places)
        files = [] if written is None else [Path(each) for each in written.files]
        return [path for path in files if path.parent == self._places.drop_ins and path not in self._texts]

    def _to_do(self) -> list[str]:
        to_do = []
        if self._chosen.is_example:
            to_do.append(f"say in {CONFIG} where the cluster is, and what is to be captured")
        mine = f"install -d -o {self._options.user} -g {self._group}"
        needs = self._chosen.needs
        to_do += [f"make the repository's folder: {mine} -m 700 {path}" for path in self._missing(needs.repositories)]
        to_do += [f"make or mount the folder of replicas: {mine} {path}" for path in self._missing(needs.replicas)]
        if self._chosen.is_example or not self._options.start:
            to_do.append(f"put the password of Prism into {CREDENTIALS}/ntx-password, mode 0600")
            to_do.append("run this command again" if self._chosen.is_example else "systemctl restart ntx-agent")
        return to_do

    def _missing(self, folders: Iterable[Path]) -> list[str]:
        """Return those that are not there, as words of a shell."""
        return [shlex.quote(str(path)) for path in folders if not self._places.at(path).exists()]

    def _prepare(self, written: Written) -> None:
        places, user = self._places, self._options.user
        if self._system.make_user(user, places.state):
            written.note_user(user)
        for folder in (places.versions, CONFIG.parent, places.unit.parent, CREDENTIALS, COMMAND.parent):
            self._make_folder(folder, written)
        versions.make_version(places, self._release, self._python(), written, self._fill)

    def _python(self) -> Path:
        return python_for(self._release.python, self._options.python)

    def _make_folder(self, folder: Path, written: Written) -> None:
        here = self._places.at(folder)
        if here.is_dir():
            return
        here.parent.mkdir(parents=True, exist_ok=True)
        written.note_folder(folder)
        make_folder(here)
        os.chmod(here, CREDENTIALS_MODE if folder == CREDENTIALS else FOLDER_MODE)

    def _switch(self, written: Written, before: Path | None, *, has_changes: bool) -> bool:
        """Use the new version; return whether it was started.  What fails undoes all of it."""
        was_active, was_enabled = self._system.is_active(), self._system.is_enabled()
        wants_start = self._options.start and not self._chosen.is_example and self._system.runs_services
        # A kill from here on leaves the old version running, perhaps: the next installation must not take it for this.
        written.note_switch("" if before is None else str(before))
        with ExitStack() as undo:
            undo.callback(written.note_switch, None)
            undo.callback(self._go_back, was_active=was_active, was_enabled=was_enabled)
            put = Putter(self._places, written, undo)
            self._put_configuration(put)
            self._check_version()
            for path, text in self._texts.items():
                put.file(path, text.encode())
            for path in self._stale():
                put.removed(path)
            put.link(COMMAND, self._places.ntx)
            written.note_file(self._places.current)
            undo.callback(versions.use, self._places, before)
            versions.use(self._places, self._version)
            self._system.reload_units()
            if wants_start:
                self._system.enable()
                if has_changes or not was_active:
                    self._system.restart()
            undo.pop_all()
        written.note_switch(None)
        return wants_start

    def _put_configuration(self, put: Putter) -> None:
        here = self._places.at(CONFIG)
        there = _content(here)
        if there == self._chosen.data:
            return
        if there is not None:
            put.file(CONFIG.parent / KEPT, there, mode=CONFIG_MODE)
            self._system.give_group(self._places.at(CONFIG.parent / KEPT), self._options.user, CONFIG_MODE)
        put.file(CONFIG, self._chosen.data, mode=CONFIG_MODE)
        self._system.give_group(here, self._options.user, CONFIG_MODE)

    def _check_version(self) -> None:
        """Let the new version look at the configuration.  Errors: ToolError."""
        if self._chosen.is_example:
            return
        program = self._places.at(self._version) / "bin" / "python"
        command: list[str | Path] = [program, "-m", "ntxengine", "config", "check", self._places.at(CONFIG), "--quiet"]
        start(command, f"{CONFIG} by the new version", environment=environment_of(self._places))

    def _go_back(self, *, was_active: bool, was_enabled: bool) -> None:
        """The last step of what is undone: the files are as they were."""
        log.warning("the new version is not used: everything is put back")
        steps: list[Callable[[], None]] = [self._system.reload_units]
        steps.append(self._system.restart if was_active else self._system.stop)
        if not was_enabled:
            steps.append(self._system.disable)
        for step in steps:
            try:
                step()
            except NtxError as exc:
                log.warning("%s", exc)


def _before(places: Places, written: Written) -> Path | None:
    """Return the version that was used last: before a switch that was cut short, the one that it began with."""
    if written.switching_from == "":
        return None
    before = Path(written.switching_from or "/")
    is_there = before.parent == places.versions and versions.is_whole(places, before)
    return before if is_there else versions.current(places)


def make_folder_for_all(path: Path) -> None:
    """Make a folder that everybody may enter, and those above it, unless it is there.  Errors: TargetError."""
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    make_folder(path)
    os.chmod(path, FOLDER_MODE)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
