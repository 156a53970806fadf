"""Files and links that are put in place, each with the way back."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from ntxengine.deploy.places import Places
from ntxengine.deploy.written import Written
from ntxengine.files.durable import make_folder, remove_file, replace_file, write_error

FILE_MODE = 0o644


class Putter:
    """Puts files of an installation; `undo` is told how each of it is taken back."""

    def __init__(self, places: Places, written: Written, undo: ExitStack) -> None:
        self._places = places
        self._written = written
        self._undo = undo

    def file(self, path: Path, data: bytes, *, mode: int = FILE_MODE) -> None:
        """Give a file these contents.  Errors: TargetError."""
        here = self._places.at(path)
        if not here.parent.is_dir():
            self._written.note_folder(path.parent)
            make_folder(here.parent)
            os.chmod(here.parent, 0o755)
        self._remember(here)
        self._written.note_file(path)
        replace_file(here, data)
        os.chmod(here, mode)

    def removed(self, path: Path) -> None:
        """Remove a file.  Errors: TargetError."""
        here = self._places.at(path)
        self._remember(here)
        remove_file(here)

    def link(self, path: Path, target: Path) -> None:
        """Make a link, unless something of somebody else has its name.  Errors: TargetError."""
        here = self._places.at(path)
        if os.path.lexists(here):
            return
        self._written.note_file(path)
        try:
            here.symlink_to(target)
        except OSError as exc:
            raise write_error(here, "linking", exc) from exc
        self._undo.callback(remove_file, here)

    def _remember(self, here: Path) -> None:
        """Let the way back give a file what it holds now, with owner and mode; or take it away, if there is none."""
        try:
            before, data = here.stat(), here.read_bytes()
        except FileNotFoundError:
            self._undo.callback(remove_file, here)
            return
        self._undo.callback(_put_back, here, data, before)


def _put_back(here: Path, data: bytes, before: os.stat_result) -> None:
    replace_file(here, data)
    os.chmod(here, before.st_mode & 0o7777)
    os.chown(here, before.st_uid, before.st_gid)
