"""Messages on stderr: the one way for notes, warnings, logs, progress and errors.

They are lines of text, or lines of JSON where a program reads them (--progress json); and they stand above the bars
that are live at that moment, instead of tearing them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console


class Messages:
    """What stderr is at this moment."""

    def __init__(self) -> None:
        self.as_json = False
        self.console: Console | None = None
        """That of the bars, while there are any."""

    def say(
        self, message_type: str, text: str, *, colour: str | None = None, fields: Mapping[str, object] | None = None
    ) -> None:
        """Say `text`; a program gets its type, and `fields` in the place of the text if there are any."""
        if self.as_json:
            click.echo(json.dumps({"message_type": message_type, **(fields or {"text": text})}), err=True)
        elif self.console is not None:
            from rich.text import Text

            self.console.print(Text(text, style=colour or ""), soft_wrap=True)
        else:
            shown = click.style(text, fg=colour) if colour and is_coloured(sys.stderr) else text
            click.echo(shown, err=True, color=True)


messages = Messages()


def is_coloured(stream: TextIO) -> bool:
    """Return whether to write colours: on a terminal that has some, unless the person said no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
