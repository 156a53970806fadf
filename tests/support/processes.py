"""The processes of this machine, as /proc shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process; `words` is its command line, [""] for one without (a zombie, a thread of the kernel)."""

    pid: int
    words: list[str]
    parent: int
    folder: Path
    """What else /proc has about it: to read there is an OSError once it has ended."""

    @property
    def command(self) -> str:
        return " ".join(self.words)


def processes() -> Iterator[Process]:
    """Yield all that there are, but those that end meanwhile."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = os.fsdecode((folder / "cmdline").read_bytes()).removesuffix("\0").split("\0")
            parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            yield Process(int(folder.name), words, parent, folder)


def children(text: str) -> list[Process]:
    """Return the programs that this process runs, and that have `text` in their command line."""
    return [process for process in processes() if process.parent == os.getpid() and text in process.command]
