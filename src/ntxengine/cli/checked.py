"""Commands that monitoring calls with --check, and that end with 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN then."""

from __future__ import annotations

from typing import NoReturn

import click

from ntxengine.cli.errors import error_fields
from ntxengine.errors import NtxError

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
"""What a check ends with, as monitoring systems take it."""


class CheckUnknown(NtxError):
    """Something kept us from an answer: by its own code it would be a WARNING, or CRITICAL, to monitoring."""

    exit_code = UNKNOWN


class CheckedCommand(click.Command):
    """A command of which --check is an option: wrong arguments, and what it fails with, are UNKNOWN then."""

    def end_unknown(self, text: str) -> NoReturn:
        """End because of `text`: by default as any error is told."""
        raise CheckUnknown(text)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_check = "--check" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as exc:
            if not is_check:
                raise
            self.end_unknown(str(error_fields(exc)["message"]))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.Abort, click.exceptions.Exit):
            raise
        except Exception as exc:  # whatever it is, monitoring wants a 3
            if not ctx.params.get("check"):
                raise
            self.end_unknown(str(error_fields(exc)["message"]))
