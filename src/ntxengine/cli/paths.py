"""Paths on the command line: an address in the place of one is refused, instead of made as a folder of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ntxengine.dataplane.location import check_path
from ntxengine.errors import OptionsError


class LocalPath(click.Path):
    """A path of this machine; `options` are those of click.Path.  Gives a pathlib.Path."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str):
            try:
                check_path(value)
            except OptionsError as exc:
                self.fail(str(exc), param, ctx)
        return super().convert(value, param, ctx)


FILE = LocalPath(dir_okay=False)
FOLDER = LocalPath(file_okay=False)
