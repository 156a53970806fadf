"""Where a demo works, and how it shows what it does."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from ntxengine.demo.cluster import NTX
from ntxengine.demo.machine import check_addresses, check_space
from ntxengine.demo.shell import Shell
from ntxengine.errors import OptionsError

MARKER = ".ntx-demo"
"""Says that a folder is ours to delete."""


class Workplace:
    """A folder, and a shell beside it, so that the commands that are shown are short and can be repeated."""

    def __init__(self, folder: Path, say: Callable[[str], None], *, is_temporary: bool = False) -> None:
        """`say` shows a line; `is_temporary`: the folder is removed at the end by who made it."""
        self.folder = folder.absolute()
        self.name = Path(self.folder.name)
        self.beside = self.folder.parent
        self.say = say
        self.shell = Shell(say, self.beside)
        self._is_temporary = is_temporary
        self._started_s = time.monotonic()

    def begin(self) -> None:
        """Look at what this machine has, remove what the last run left, make the folder.

        Errors: ToolError, MachineError; OptionsError, if the folder holds something else.
        """
        self.shell.check_tools()
        check_addresses()
        if self.folder.exists():
            if not (self.folder / MARKER).exists() and any(self.folder.iterdir()):
                raise OptionsError(f"{self.folder} holds something that is not of a demo: name another folder")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        (self.folder / MARKER).write_text("made by ntx demo, and deleted by its next run\n")
        check_space(self.folder)
        # Says what the simulator lacks before a guest is made for it.
        self.shell.quietly(*NTX, "sim", "--help")

    def title(self, text: str) -> None:
        """Begin a part."""
        self.say("")
        self.say(f"== {text}")

    def ntx(self, *arguments: str, good: Collection[int] = (0,)) -> None:
        """Run a command in front of the person.  Errors: ToolError, if it does not end with one of `good`."""
        self.shell.openly(*NTX, *arguments, shown=shlex.join(["ntx", *arguments]), good=good)

    def end(self, what: str) -> None:
        """Say that all went well, how long it took, and where it is."""
        self.say("")
        self.say(f"{what}; {time.monotonic() - self._started_s:.0f} s in all.")
        self.say(where_it_is(self.folder, is_temporary=self._is_temporary))


def where_it_is(folder: Path, *, is_temporary: bool) -> str:
    """Return what is said at the end of a folder."""
    if is_temporary:
        return "It was in a temporary folder, which is removed now: --dir DIR keeps it."
    return f"Everything is in {folder}"
