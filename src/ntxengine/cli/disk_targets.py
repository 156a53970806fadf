"""`--to DISK=TARGET`, split where the name of the disk ends: labels and targets may hold `=` and `:` themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ntxengine.dataplane.location import Location, parse
from ntxengine.errors import OptionsError

if TYPE_CHECKING:
    from ntxengine.repository import Point

_PLACES = ("source", "target", "uri")
"""Arguments that may name an NBD server."""


def split_targets(point: Point, texts: Sequence[str]) -> dict[str, str]:
    """Return the targets by disk id.

    Errors: OptionsError (no DISK=TARGET, or it can be read in two ways; two for one disk), NotFoundError.
    """
    targets: dict[str, str] = {}
    for text in texts:
        name = _name_in(point, text)
        disk, target = point.disk(name), text[len(name) + 1 :]
        if disk.disk_id in targets:
            raise OptionsError(
                f"--to {text}: disk {disk.label} ({disk.disk_id}) has a target already, {targets[disk.disk_id]}"
            )
        targets[disk.disk_id] = target
    return targets


def _name_in(point: Point, text: str) -> str:
    """Return what of `--to` is the name of a disk, as it was typed."""
    names = {name for disk in point.disks for name in (disk.label, disk.disk_id)}
    found = sorted({len(name) for name in names if _begins(text, name)})
    if len(found) > 1:
        ways = " or ".join(f"{text[: found[at]]!r}" for at in range(len(found)))
        raise OptionsError(f"--to {text}: the disk may be {ways}: name it by its id (`ntx points --report -o wide`)")
    if found:
        return text[: found[0]]
    if "=" not in text:
        known = ", ".join(f"{disk.label} ({disk.disk_id})" for disk in point.disks) or "none"
        raise OptionsError(f"--to {text}: write DISK=TARGET; disks of point {point.id}: {known}")
    return text.partition("=")[0]  # whoever looks for it says what there is


def _begins(text: str, name: str) -> bool:
    return text[: len(name)].lower() == name.lower() and text[len(name) : len(name) + 1] == "="


def locations_named(arguments: Mapping[str, Any]) -> Iterator[Location]:
    """Yield what the arguments of a command may mean, to see whether options of a connection are of any use to it.

    Errors: OptionsError.
    """
    for name in _PLACES:
        if arguments.get(name) is not None:
            yield parse(arguments[name])
    for text in arguments.get("to", ()):
        parts = text.split("=")
        for at in range(1, len(parts)):
            try:
                yield parse("=".join(parts[at:]))
            except OptionsError:
                continue  # the command itself says what is wrong with it, if that is where the target begins
