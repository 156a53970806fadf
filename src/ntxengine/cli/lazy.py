"""Groups of commands that know what they have by name, and load one when it is used: help stays quick."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

NAMES_WIDTH = 12


class Entry(NamedTuple):
    """Where a command lives, and what the overview says about it."""

    module: str
    help: str


class LazyGroup(click.Group):
    """A group of the commands in `entries`: that called NAME is `NAME_command` of its module in ntxengine.cli."""

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"ntxengine.cli.{entry.module}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self._section(formatter, "Commands", self.entries)

    def _section(self, formatter: click.HelpFormatter, title: str, entries: Mapping[str, Entry]) -> None:
        if entries:
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()], col_max=NAMES_WIDTH)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=e.help) for name, e in self.entries.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)
