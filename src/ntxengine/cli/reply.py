"""The one JSON object on stdout: the result of a command, with what failed in it; with --json there is always one."""

from __future__ import annotations

import json

import click


class Reply:
    """What will be printed when the command has ended."""

    def __init__(self) -> None:
        self.is_wanted = False
        self.value: object = None

    def fail(self, error: dict[str, object]) -> None:
        """Add what failed to the result, if there is one: of several items some may be done."""
        if self.is_wanted:
            known = self.value if isinstance(self.value, dict) else {}
            self.value = {**known, "error": error}

    def write(self) -> None:
        """Print it, once."""
        if self.value is not None:
            value, self.value = self.value, None
            click.echo(json.dumps(value, ensure_ascii=True))


reply = Reply()
