"""`ntx copy` from standard input or to standard output: what is refused, where it speaks, and its dry run."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path
from typing import Any

import click

from ntxengine.cli.mapping import map_shown
from ntxengine.cli.output import Screen
from ntxengine.cli.reply import reply
from ntxengine.cli.streams import was_closed
from ntxengine.copying import CopyRequest, open_source_of
from ntxengine.copying.streamed import known_size
from ntxengine.dataplane.location import STREAM, parse
from ntxengine.dataplane.open import check_new, open_existing
from ntxengine.dataplane.standard import STDIN, STDOUT
from ntxengine.errors import OptionsError
from ntxengine.images.endpoints import size_of_new


def screen_for_streams(source: str, target: str, screen: Screen) -> Screen:
    """Return where a copy speaks: not to standard output if that is the target.  Errors: UsageError."""
    for name, text, descriptor in (("input", source, STDIN), ("output", target, STDOUT)):
        if text == STREAM and was_closed(descriptor):
            raise click.UsageError(f"-: standard {name} is closed")
    if target != STREAM:
        return screen
    if screen.as_json:
        reply.is_wanted = False  # the error, too, would be in the copy
        raise click.UsageError("--json: standard output is the copy: what there is to say goes to stderr")
    return dataclasses.replace(screen, on_stderr=True)


async def plan_streamed(request: CopyRequest, screen: Screen) -> dict[str, Any]:
    """Find out what would be copied; nothing is read from standard input, nothing written to standard output."""
    plan: dict[str, Any] = {"source": request.source, "target": request.target, "dry_run": True}
    plan |= {"bytes_data": None, "bytes_zero": None}
    size = await asyncio.to_thread(known_size, request)
    if not request.is_from_stream:
        async with open_source_of(request) as source:
            size = source.size
            with screen.view() as view, await map_shown(source, view, timeout_s=request.options.timeout_s) as extents:
                plan |= {"bytes_data": extents.bytes_data, "bytes_zero": extents.bytes_zero}
    is_new, target_size = await _target(request, size)
    return plan | {"size": size, "target_is_new": is_new, "target_size": target_size}


async def _target(request: CopyRequest, size: int | None) -> tuple[bool, int | None]:
    """Return whether it is made, and the size that it has then; None: nobody knows."""
    location = parse(request.target)
    new_size = None if size is None else size_of_new(size, request.target_format)
    if location.kind == "pattern":
        raise OptionsError(f"{request.target}: can only be a source; to drop the bytes use null:")
    if location.kind in ("stream", "null"):
        return False, size
    if location.kind == "file" and not await asyncio.to_thread(os.path.lexists, location.path):
        await asyncio.to_thread(check_new, Path(location.path))
        return True, new_size
    async with open_existing(
        location,
        size=size or 1,
        overwrite=request.overwrite,
        timeout_s=request.options.timeout_s,
        connection=request.connection,
    ) as device:
        return False, device.size
