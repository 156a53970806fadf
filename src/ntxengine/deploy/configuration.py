"""The configuration of an installation: which one it gets, whether it is right, and what it makes of the unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ntxengine.agent.database import STEPS, version_of
from ntxengine.agent.state import FILE
from ntxengine.config.file import Config
from ntxengine.config.reading import parse
from ntxengine.deploy.needs import Needs, needs_of
from ntxengine.deploy.places import CONFIG, ENVIRONMENT, Places
from ntxengine.deploy.release import EXAMPLE, Release
from ntxengine.errors import StateError
from ntxengine.files.durable import read_error

_VARIABLE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


@dataclass(frozen=True)
class Chosen:
    """The configuration that an installation gets."""

    data: bytes
    where: str
    """Where it comes from, for a person."""
    is_example: bool
    """Nobody has said yet where the cluster is: nothing can be started."""
    needs: Needs
    state: Path


def choose(places: Places, release: Release, given: Path | None) -> Chosen:
    """Return that of `--config`, else the one that is there, else the example.

    Errors: ConfigError (what is wrong, with lines); OptionsError.
    """
    there = places.at(CONFIG)
    example = _read(release.folder / EXAMPLE)
    if given is not None:
        data, where = _read(given), str(given)
    elif there.exists():
        data, where = _read(there), str(there)
    else:
        data, where = example, f"the example of {release.folder}"
    if data == example:
        return Chosen(data, where, is_example=True, needs=Needs(), state=places.state)
    # Relative paths of the file begin where it will lie, not where it was given.
    loaded = parse(data, where, folder=CONFIG.parent, environment=environment_of(places))
    config: Config = loaded.config
    return Chosen(data, where, is_example=False, needs=needs_of(config), state=Path(config.agent.state))


def check_state(places: Places, state: Path, version: str) -> None:
    """Errors: StateError, if what the agent remembers was written by a newer version: it would not start."""
    path = places.at(state) / FILE
    # One that is damaged the agent sets aside, and says so.
    found = version_of(path)
    if found is not None and found > len(STEPS):
        raise StateError(
            f"{path} was written by a newer ntx (format {found}; {version} knows {len(STEPS)}), and would be refused: "
            f"nothing was changed.  Install that version again, or give up the history of runs: move {path} away"
        )


def environment_of(places: Places) -> Mapping[str, str]:
    """Return what the service gets as its variables: those of the file that the unit names."""
    path = places.at(ENVIRONMENT)
    if not path.exists():
        return {}
    lines = (_VARIABLE.fullmatch(line) for line in _read(path).decode(errors="replace").splitlines())
    return {found[1]: _unquoted(found[2].strip()) for found in lines if found}


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if is_quoted else text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise read_error(path, exc) from exc
