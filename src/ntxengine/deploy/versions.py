"""Versions side by side, each a venv of its own, and the link that says which is used.

A version is whole when it has `.complete`, which is written last: what a kill left is made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ntxengine.deploy.places import Places
from ntxengine.deploy.release import Release
from ntxengine.deploy.system import start
from ntxengine.deploy.written import Written
from ntxengine.errors import OptionsError
from ntxengine.files.durable import remove_file, remove_tree, sync_folder, write_error, write_file
from ntxengine.repository.layout import MARKER_FILE

COMPLETE = ".complete"
EXTRAS = "agent,uvloop"

Fill = Callable[[Path, Release, Path], None]
"""Makes the folder of a version: folder, release, Python."""


def path_of(places: Places, release: Release) -> Path:
    return places.versions / release.name


def is_whole(places: Places, version: Path) -> bool:
    return places.at(version / COMPLETE).exists()


def make_version(places: Places, release: Release, python: Path, written: Written, fill: Fill) -> Path:
    """Make the venv of a release unless it is there; return its path in the root.  Errors: ToolError, TargetError."""
    version = path_of(places, release)
    if is_whole(places, version):
        return version
    here = places.at(version)
    written.note_folder(version)
    remove_tree(here)
    fill(here, release, python)
    if not places.is_this_machine:
        _call_it(here, version)
    told = start([here / "bin" / "python", "-m", "ntxengine", "--version"], "trying the new version").split()
    if told[-1:] != [release.version]:
        raise OptionsError(f"{here}: this is version {' '.join(told)}, and not {release.version}")
    write_file(here / COMPLETE, b"", mode=0o644)
    sync_folder(here)
    return version


def fill_venv(here: Path, release: Release, python: Path) -> None:
    """Make a venv of a release, without a network; pip is that of the release, and not in the venv.

    Errors: ToolError.
    """
    start([python, "-m", "venv", "--without-pip", here], f"making {here}")
    pip: list[str | Path] = [here / "bin" / "python", release.pip / "pip", "--isolated", "--disable-pip-version-check"]
    wanted = f"ntxengine[{EXTRAS}]=={release.version}"
    options: list[str | Path] = ["--quiet", "--no-index", "--no-cache-dir", "--find-links", release.wheels]
    start([*pip, "install", *options, wanted], f"installing ntxengine {release.version} into {here}")


def _call_it(here: Path, version: Path) -> None:
    """Let the programs of a venv that was made below another root say where it lies in that root."""
    for path in (here / "bin").iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if bytes(here) in data:
            path.write_bytes(data.replace(bytes(here), bytes(version)))


def current(places: Places) -> Path | None:
    """Return the version that is used, by its path in the root; None if none is."""
    try:
        return places.prefix / os.readlink(places.at(places.current))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise OptionsError(f"{places.at(places.current)} is no link, and not ours: {exc.strerror}") from exc


def use(places: Places, version: Path | None) -> None:
    """Let the link lead to a version, at one moment; None: remove it.  Errors: TargetError."""
    link = places.at(places.current)
    try:
        if version is None:
            link.unlink(missing_ok=True)
        else:
            fresh = link.with_name(f".{link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(version.relative_to(places.prefix))
            os.replace(fresh, link)
    except OSError as exc:
        raise write_error(link, "linking", exc) from exc
    sync_folder(link.parent)


def old_versions(places: Places, written: Written, *kept: Path | None) -> list[Path]:
    """Return the versions that are on the list, besides those that are kept."""
    paths = [Path(each) for each in written.folders]
    return [path for path in paths if path.parent == places.versions and path not in kept]


def remove_version(places: Places, version: Path, written: Written) -> None:
    """Errors: TargetError; OptionsError if there is a repository in it."""
    here = places.at(version)
    refuse_repository(here)
    # First: of one that a kill leaves half removed nobody must believe that it is whole.
    remove_file(here / COMPLETE)
    remove_tree(here)
    written.drop(version)


def refuse_repository(folder: Path) -> None:
    """Errors: OptionsError, if there is a repository in a folder: nothing of it is removed."""
    for parent, _, files in os.walk(folder):
        if MARKER_FILE in files:
            raise OptionsError(f"there is a repository in {parent}: nothing of {folder} is removed; move it first")
