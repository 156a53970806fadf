"""A removal: the service is stopped, and what the installation wrote is removed.

What stays: the repository, always; the user, whose files those of the repository are (a later user with its number
could read them); secrets and drop-ins of people; and without `purge` the configuration and what the agent remembers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.config.reading import parse
from ntxengine.deploy.configuration import environment_of
from ntxengine.deploy.needs import STATE_OF_UNIT
from ntxengine.deploy.places import CONFIG, KEPT, LOCK, Places
from ntxengine.deploy.system import System
from ntxengine.deploy.versions import refuse_repository, remove_version
from ntxengine.deploy.written import Written, read_written
from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.files.durable import remove_file
from ntxengine.files.lock_file import LockFile

OF_STATE = ("state.db*", "agent.lock")
"""What the agent writes into its state folder: nothing else there is removed."""


@dataclass
class RemovalReport:
    """What was removed, or would be, and what stays."""

    removed: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)
    """In words."""


class Removal:
    """One removal."""

    def __init__(self, places: Places, *, purge: bool, system: System | None = None) -> None:
        self._places = places
        self._purge = purge
        self._system = system or System(places)

    def look(self) -> RemovalReport:
        """Return what would be removed.  Errors: NotFoundError (nothing was installed here); OptionsError."""
        self._system.check()
        written = self._written()
        trees, files, folders = self._versions(written), self._files(written), self._folders(written)
        for tree in trees:
            refuse_repository(self._places.at(tree))
        report = RemovalReport([str(path) for path in (*files, *trees, *folders)])
        report.stays = list(self._stays(written))
        return report

    def run(self) -> RemovalReport:
        """Do it.  Errors: as look(); LockedError (an installation is at work); ToolError; TargetError."""
        places = self._places
        self._system.check()
        self._written()
        lock = LockFile(places.at(places.prefix / LOCK), "the installation")
        lock.acquire()
        try:
            report = self.look()
            written = self._written()
            if self._system.is_installed():
                self._system.stop()
                self._system.disable()
            for path in self._files(written):
                remove_file(places.at(path))
            for tree in self._versions(written):
                remove_version(places, tree, written)
            self._system.reload_units()
            folders = self._folders(written)
            remove_file(places.at(places.written))
        finally:
            lock.release()
        for folder in folders:
            with suppress(OSError):  # what is not empty holds something of somebody else
                places.at(folder).rmdir()
        return report

    def _written(self) -> Written:
        found = read_written(self._places)
        if found is None:
            raise NotFoundError(
                f"nothing is installed at {self._places.at(self._places.prefix)}: there is no list of it"
            )
        return found

    def _versions(self, written: Written) -> list[Path]:
        paths = [Path(each) for each in written.folders]
        return [path for path in paths if path.parent == self._places.versions and self._places.at(path).exists()]

    def _files(self, written: Written) -> list[Path]:
        """Return files and links that are on the list and there; of configuration and state only what is purged."""
        configuration = (CONFIG, CONFIG.parent / KEPT)
        listed = [Path(each) for each in written.files]
        found = [path for path in listed if self._purge or path not in configuration]
        found += list(self._of_state()) if self._purge else []
        return [path for path in found if os.path.lexists(self._places.at(path))]

    def _folders(self, written: Written) -> list[Path]:
        """Return folders that go if nothing is left in them, the innermost first."""
        found = {Path(each) for each in written.folders} - set(self._versions(written))
        if self._purge:
            found.add(self._state())
        there = [path for path in found if path != Path("/") and self._places.at(path).is_dir()]
        return sorted(there, key=lambda path: (-len(path.parts), path))

    def _state(self) -> Path:
        """Return where the agent remembers; a configuration that cannot be read leaves the usual place."""
        here = self._places.at(CONFIG)
        with suppress(OSError, OptionsError):
            loaded = parse(here.read_bytes(), str(here), folder=CONFIG.parent, environment=environment_of(self._places))
            return Path(loaded.config.agent.state)
        return STATE_OF_UNIT

    def _of_state(self) -> Iterator[Path]:
        state = self._state()
        here = self._places.at(state)
        for pattern in OF_STATE:
            yield from (state / path.name for path in sorted(here.glob(pattern)) if path.is_file())

    def _stays(self, written: Written) -> Iterator[str]:
        yield "every repository"
        if self._system.has_user(written.user or "ntx"):
            yield f"the user {written.user or 'ntx'}, whose files those of the repository are"
        if not self._purge:
            yield f"{CONFIG} and what the agent remembers ({self._state()}): --purge removes both"
        yield "secrets (/etc/credstore), and drop-ins of yours"
