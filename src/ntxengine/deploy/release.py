"""A release folder, as `make release` builds it, and whether it is whole.

SHA256SUMS            of every other file, as `sha256sum` writes it
VERSION               a line
install.sh            installs without an ntx: makes one in a temporary folder, and runs `ntx agent install`
wheels/*.whl          ntxengine and all that it needs, for one version of Python; and the pip that installs it
agent.yaml            a configuration to begin with
ntx-agent.service     the unit, to be read; the installation fills it in anew
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.files.durable import read_error

SUMS, VERSION, WHEELS, SCRIPT = "SHA256SUMS", "VERSION", "wheels", "install.sh"
EXAMPLE = "agent.yaml"
MAX_SUMS = 1 << 20

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,63}")
_WHEEL = re.compile(r"ntxengine-(?P<version>[^-]+)-(?P<python>cp\d+)-[^-]+-[^-]+\.whl")


@dataclass(frozen=True)
class Release:
    """A release whose files are those that its list of checksums names."""

    folder: Path
    version: str
    digest: str
    """SHA-256 of the list, in hex: two builds of one version are two releases."""
    python: str
    """The Python that the wheels are for: cp311."""

    @property
    def name(self) -> str:
        return f"{self.version}-{self.digest[:12]}"

    @property
    def wheels(self) -> Path:
        return self.folder / WHEELS

    @property
    def pip(self) -> Path:
        """The wheel of pip, which can be run as it is."""
        return next(self.wheels.glob("pip-*.whl"))

    @property
    def script(self) -> Path:
        return self.folder / SCRIPT


def open_release(folder: Path) -> Release:
    """Return the release in a folder, every file of which was compared with its checksum.

    Errors: NotFoundError (no such folder); OptionsError (no release, or not what its list of checksums says).
    """
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder}")
    listed, digest = _listed(folder)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    if missing := sorted(listed.keys() - there):
        raise OptionsError(f"{folder}: {missing[0]} is missing: copy the release again, whole")
    if strange := sorted(there - listed.keys() - {SUMS}):
        raise OptionsError(f"{folder}: {strange[0]} is not in {SUMS}: a release has no files but those")
    for name, wanted in listed.items():
        _compare(folder / name, wanted)
    version = (folder / VERSION).read_text(encoding="utf-8", errors="replace").strip() if VERSION in listed else ""
    if not _VERSION.fullmatch(version):
        raise OptionsError(f"{folder}: {VERSION} does not name a version: this is no release of ntx")
    python = [
        found["python"] for name in listed if (found := _WHEEL.fullmatch(Path(name).name)) and _is(found, version)
    ]
    if len(python) != 1:
        raise OptionsError(f"{folder}: {len(python)} wheels of ntxengine {version} instead of one: no release of ntx")
    if not any(fnmatch(name, f"{WHEELS}/pip-*.whl") for name in listed):
        raise OptionsError(f"{folder}: there is no wheel of pip: no release of ntx")
    return Release(folder.absolute(), version, digest, python[0])


def _is(found: re.Match[str], version: str) -> bool:
    return found["version"] == version.replace("-", "_")


def _listed(folder: Path) -> tuple[dict[str, str], str]:
    path = folder / SUMS
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SUMS)
    except FileNotFoundError:
        raise OptionsError(f"{folder} is no release folder: it has no {SUMS}; `make release` builds one") from None
    except OSError as exc:
        raise read_error(path, exc) from exc
    listed = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        found = _LINE.fullmatch(line)
        name = found[2] if found else ""
        if found is None or name.startswith("/") or ".." in Path(name).parts:
            raise OptionsError(f"{path}, line {number}: not a checksum and a file of the folder")
        listed[str(Path(name))] = found[1]
    return listed, hashlib.sha256(data).hexdigest()


def _compare(path: Path, wanted: str) -> None:
    if path.is_symlink() or not path.is_file():
        raise OptionsError(f"{path} is no regular file")
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise read_error(path, exc) from exc
    if found != wanted:
        raise OptionsError(f"{path} is not what {SUMS} says (SHA-256 {found}, not {wanted}): nothing was installed")
