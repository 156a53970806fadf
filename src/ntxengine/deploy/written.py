"""The list of what an installation wrote: a removal removes what is on it, and nothing else.

A path is on the list, durably, before it is made, so that a kill leaves nothing that no list names.  Paths are those of
the root.  Files of people are never on it: configuration that was there, secrets, the repository.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ntxengine.deploy.places import Places
from ntxengine.errors import OptionsError
from ntxengine.files.durable import read_error, replace_file

VERSION = 1


@dataclass
class Written:
    """What was written: files and links by their paths, folders likewise, in the order in which they were made."""

    places: Places
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    user: str = ""
    """The user that was made for the service, "" if it was there."""
    switching_from: str | None = None
    """The version that was used before a switch that has not come to its end, "" if none was; None: all have."""

    def note_file(self, path: Path) -> None:
        """Put a file or a link on the list.  Errors: TargetError."""
        self._note(self.files, path)

    def note_folder(self, path: Path) -> None:
        """Put a folder on the list.  Errors: TargetError."""
        self._note(self.folders, path)

    def note_user(self, name: str) -> None:
        self.user = name
        self.save()

    def note_switch(self, before: str | None) -> None:
        """Say that a switch begins, from this version; None: that it has come to its end.  Errors: TargetError."""
        if self.switching_from != before:
            self.switching_from = before
            self.save()

    def drop(self, path: Path) -> None:
        """Take a path off the list, which is not there any more.  Errors: TargetError."""
        self.files = [each for each in self.files if each != str(path)]
        self.folders = [each for each in self.folders if each != str(path)]
        self.save()

    def save(self) -> None:
        document = {
            "version": VERSION,
            "user": self.user,
            "files": self.files,
            "folders": self.folders,
            "switching_from": self.switching_from,
        }
        replace_file(self.places.at(self.places.written), json.dumps(document, indent=1).encode() + b"\n")

    def _note(self, kind: list[str], path: Path) -> None:
        if str(path) not in kind:
            kind.append(str(path))
            self.save()


def read_written(places: Places) -> Written | None:
    """Return the list of an installation; None if there is none.  Errors: OptionsError (it is damaged, or newer)."""
    path = places.at(places.written)
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise read_error(path, exc) from exc
    except ValueError as exc:
        raise OptionsError(
            f"{path} is damaged ({exc}): remove by hand what docs/deploy.md lists, and install anew"
        ) from exc
    if not _is_list(document):
        raise OptionsError(f"{path} is not of this version of ntx: use the ntx that installed it")
    return Written(places, document["files"], document["folders"], document["user"], document.get("switching_from"))


def _is_list(document: Any) -> bool:
    """Only absolute paths without `..`, so that a damaged list names nothing by accident."""
    if (
        not isinstance(document, dict)
        or document.get("version") != VERSION
        or not isinstance(document.get("user"), str)
        or not isinstance(document.get("switching_from"), str | None)
    ):
        return False
    lists = [document.get("files"), document.get("folders")]
    return all(
        isinstance(each, list)
        and all(isinstance(path, str) and path.startswith("/") and ".." not in Path(path).parts for path in each)
        for each in lists
    )
