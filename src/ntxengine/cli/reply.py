"""The one JSON object on stdout: the result of a command, with what failed in it; with --json there is always one."""

from __future__ import annotations

import json

import click


class Reply:
    """What will be printed when the command has ended."""

    def __init__(self) -> None:
        self.is_wanted = False
        self.value: object = None
        self._list = ""

    def add(self, name: str, item: object) -> None:
        """Print an item of the list that the object begins with: there may be more than memory should hold."""
        click.echo("," if self._list else f"{{{json.dumps(name)}: [")
        click.echo(json.dumps(item, ensure_ascii=True), nl=False)
        self._list = name

    def fail(self, error: dict[str, object]) -> None:
        """Add what failed to the result, if there is one: of several items some may be done."""
        if self.is_wanted:
            known = self.value if isinstance(self.value, dict) else {}
            self.value = {**known, "error": error}

    def write(self) -> None:
        """Print it, once; of an object that was begun, what is missing."""
        value, self.value = self.value, None
        if self._list:
            known = value if isinstance(value, dict) else {}
            rest = {name: item for name, item in known.items() if name != self._list}
            end = json.dumps(rest, ensure_ascii=True)[1:]
            click.echo("\n]" + (f", {end}" if rest else end))
            self._list = ""
        elif value is not None:
            click.echo(json.dumps(value, ensure_ascii=True))


reply = Reply()
