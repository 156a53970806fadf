"""The definition of a machine, written beside its disks: under another name until the generation is committed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.files import durable
from ntxengine.machines import DefinitionOptions, DiskFile, Machine, writer
from ntxengine.replicate.targets.base import Finished, next_name
from ntxengine.units import utc_now


async def write_definition(
    folder: Path,
    name: str,
    generation: int,
    kind: str,
    machine: Machine,
    files: Sequence[DiskFile],
    options: DefinitionOptions,
) -> Finished:
    """Write the definition of a machine into `folder`, durably; the commit renames it.

    `kind` is a platform, as ntxengine.machines.writer takes it.
    Errors: OptionsError (it cannot be defined there), TargetError.
    """
    chosen = writer(kind)
    definition = chosen.write(machine, files, dataclasses.replace(options, now=options.now or utc_now()))
    final = f"{name}{chosen.suffix}"
    now = next_name(final, generation)
    await to_thread_joined(durable.replace_file, folder / now, definition.text.encode())
    return Finished(((now, final),), final, definition.losses)
