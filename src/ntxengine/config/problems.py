"""What is wrong with a file of configuration: each mistake with its line, its key, and what to do."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ntxengine.errors import OptionsError

KeyPath = tuple[str | int, ...]
"""The way from the beginning of the file to a value: ("jobs", 0, "every")."""

MOST_TOLD = 100
"""More mistakes than these are those of a file that is no configuration."""

_MOST_TEXT = 400
_PLAIN_KEY = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True)
class Mark:
    """A place in the file, as an editor counts: both from 1; line 0 is no place."""

    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong at `path`, or with `is_warning` most likely is."""

    path: KeyPath
    message: str
    mark: Mark = Mark()
    is_warning: bool = False

    def text(self, name: str) -> str:
        """Return the line that is said of it; `name` is that of the file."""
        where = f"{name}:{self.mark.line}" if self.mark.line else name
        key = key_text(self.path)
        return shown(f"{where}: {key}: {self.message}" if key else f"{where}: {self.message}")


class ConfigError(OptionsError):
    """A file of configuration is wrong.

    `problems` are the lines that are said of it, one for each mistake; `found` are the mistakes.
    """

    def __init__(self, message: str, *, problems: tuple[str, ...] = (), found: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = problems
        self.found = list(found)


def config_error(name: str | Path, problems: Sequence[Problem]) -> ConfigError:
    """Return the error for what is wrong: it says the first, and how many there are."""
    ordered = in_order(problems)[:MOST_TOLD]
    lines = tuple(each.text(str(name)) for each in ordered)
    more = "" if len(lines) == 1 else f" (and {len(lines) - 1} more: ntx config check {shown(str(name))})"
    return ConfigError(f"{lines[0]}{more}", problems=lines, found=ordered)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return each once, by its place in the file."""
    return sorted(dict.fromkeys(problems), key=lambda each: (each.mark.line, each.mark.column))


def key_text(path: KeyPath) -> str:
    """Return a path as people write it: `jobs[0].every`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _PLAIN_KEY.fullmatch(step) else repr(step[:64])
            text += f".{name}" if text else name
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """Return what is added to a message where `word` is none of those that are known."""
    names = sorted(known)
    found = difflib.get_close_matches(word[:64].lower(), names, n=1, cutoff=0.5)
    if found:
        return f"; nearest: {found[0]}"
    return f"; known: {', '.join(names)}" if names else ""


def shown(text: str) -> str:
    """Return `text` as one line of letters that do nothing but show themselves, and not too many of them."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text))
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."


def _shown(letter: str) -> str:
    if unicodedata.category(letter) in _NOT_SHOWN:
        return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
    return letter
