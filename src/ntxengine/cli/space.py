"""What a dry run says of free space: an estimate, beside what the file system has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntxengine.cli.output import Screen
from ntxengine.cli.text import plural
from ntxengine.errors import TargetError
from ntxengine.files.free_space import free_bytes
from ntxengine.units import format_size

LEAST_PER_DISK = 256 * 1024
"""An image and a manifest without a byte of data."""


@dataclass(frozen=True)
class Space:
    """What is needed and free, in bytes.  `bytes_estimated` is None where nobody can tell of some disk."""

    bytes_estimated: int | None
    bytes_free: int


def space_for(guesses: Sequence[int | None], repository: Path) -> Space:
    """Return what disks will need in a repository, which may not exist yet, and what is free there.

    `guesses` are bytes for each disk, None where nobody can tell.

    Errors: TargetError if there is not even room for empty disks.
    """
    free = free_bytes(repository)
    if free < LEAST_PER_DISK * len(guesses):
        raise TargetError(
            f"{repository}: the file system has {format_size(free)} free, too little for "
            f"{plural(len(guesses), 'disk')}: free some space, or use another file system"
        )
    return Space(None if None in guesses else sum(guess for guess in guesses if guess is not None), free)


def say_space(space: Space, screen: Screen) -> None:
    """Tell a person; a warning where it may not be enough."""
    free = format_size(space.bytes_free)
    if space.bytes_estimated is None:
        screen.note(f"  {free} are free; how much is needed cannot be told")
        return
    text = f"needs about {format_size(space.bytes_estimated)} (an estimate) of the {free} that are free"
    if space.bytes_estimated > space.bytes_free:
        screen.warning(f"{text}: it may not fit")
    else:
        screen.note(f"  {text}")
