"""Files that hold one secret: a password or a key in their first line."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from ntxengine.errors import OptionsError

MAX_SECRET_BYTES = 4096


class SecretLine(NamedTuple):
    """The secret, and what is to be said of its file, "" if nothing."""

    text: str
    warning: str

    def __repr__(self) -> str:
        return f"SecretLine(***, {self.warning!r})"


def read_secret_file(path: Path, what: str) -> SecretLine:
    """Return the first line of `path`, with a warning if everybody on this machine can read it.

    `what` is what messages call the file: "password file".
    Errors: OptionsError.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_SECRET_BYTES + 1)
        first = content.split(b"\n", 1)[0].rstrip(b"\r").decode()
    except OSError as exc:
        raise OptionsError(f"{what} {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise OptionsError(f"{what} {path}: its first line is not UTF-8") from exc
    if not first or len(content) > MAX_SECRET_BYTES:
        raise OptionsError(f"{what} {path}: expected one line of 1 to {MAX_SECRET_BYTES} bytes")
    is_open = mode & stat.S_IROTH
    warning = f"{what} {path} can be read by every user of this machine: chmod 600 {path}" if is_open else ""
    return SecretLine(first, warning)
