"""`ntx tag` and `ntx hold`: what a person says of a point, which stays beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import click

from ntxengine.cli import complete
from ntxengine.cli.options import common_options, dry_run_option, repository_option
from ntxengine.cli.output import Screen
from ntxengine.cli.points import find_point
from ntxengine.cli.run import run
from ntxengine.cli.said import said_fields
from ntxengine.cli.times import MOMENT, SPAN
from ntxengine.errors import NotFoundError, OptionsError, RepositoryError
from ntxengine.repository import Hold, PointRetention, Repository, Retention, hold_text
from ntxengine.units import format_time, utc_now


@click.command("tag")
@click.argument("point", shell_complete=complete.points)
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@repository_option("--from")
@click.option("--remove", is_flag=True, help="Take the tags from the point instead.")
@dry_run_option
@common_options
def tag_command(
    point: str, tags: tuple[str, ...], repository: Path, remove: bool, dry_run: bool, screen: Screen
) -> None:
    """Give POINT tags, by which `ntx forget --keep-tag` keeps it.

    POINT is its id or the beginning of it; the name or UUID of a VM means the newest point of that VM.  A tag is made
    of letters, digits and . _ : + @ = / -.  A point can be tagged while its VM is captured.

    \b
    Examples:
      ntx tag 20261123T041500Z-8f3a2c release before-upgrade --from /backups
      ntx tag db01 release --remove --from /backups
    """

    def change(said: Retention, point_id: str) -> Retention:
        return said.tag(point_id, remove=tags) if remove else said.tag(point_id, add=tags)

    found = run(_change(repository, point, change, screen, dry_run=dry_run))
    text = f"tags: {' '.join(found.said.tags)}" if found.said.tags else "no tags"
    _tell(found, text, screen, dry_run=dry_run)


@click.command("hold")
@click.argument("point", shell_complete=complete.points)
@repository_option("--from")
@click.option("--until", type=MOMENT, metavar="DATE", help="Until then: 2027-03-01, or 2027-03-01T12:00:00Z.")
@click.option("--for", "span", type=SPAN, help="For so long from now: 30d, 36h.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for who comes after you.")
@click.option("--release", is_flag=True, help="Hold it no longer.")
@dry_run_option
@common_options
def hold_command(
    point: str,
    repository: Path,
    until: datetime | None,
    span: timedelta | None,
    reason: str,
    release: bool,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Hold POINT: until a time, or until it is released, nothing forgets or removes it.

    POINT is its id or the beginning of it; the name or UUID of a VM means the newest point of that VM.  Another hold
    takes the place of the one that was there.  Whoever can write to the repository can release it.

    \b
    Examples:
      ntx hold 20261123T041500Z-8f3a2c --until 2027-03-01 --reason audit --from /backups
      ntx hold db01 --for 30d --from /backups
      ntx hold 20261123T041500Z-8f3a2c --release --from /backups
    """
    if sum((until is not None, span is not None, release)) > 1:
        raise click.UsageError("--until, --for and --release contradict each other: give one of them")
    if release and reason:
        raise click.UsageError("--reason is of a hold, not of its release")
    now = utc_now()
    hold = None if release else Hold(now + span if span is not None else until, reason)
    if hold is not None and hold.is_over(now) and hold.until is not None:
        raise OptionsError(f"--until {format_time(hold.until)} is over already")

    def change(said: Retention, point_id: str) -> Retention:
        return said.hold(point_id, hold)

    found = run(_change(repository, point, change, screen, dry_run=dry_run))
    text = "not held" if found.said.hold is None else f"held {hold_text(found.said.hold)}"
    _tell(found, text, screen, dry_run=dry_run)


@dataclass(frozen=True)
class _Said:
    """What is said of a point now, or would be."""

    vm_id: str
    point_id: str
    said: PointRetention


async def _change(
    repository: Path, name: str, change: Callable[[Retention, str], Retention], screen: Screen, *, dry_run: bool
) -> _Said:
    """Change what is said of a point."""
    opened = await Repository.open(repository)
    folder = await _find_folder(opened, name, screen)
    vm_id, point_id = folder.parent.name, folder.name
    if dry_run:
        after = change(await opened.retention(vm_id), point_id)
    else:
        after = await opened.change_retention(vm_id, lambda said: change(said, point_id))
    return _Said(vm_id, point_id, after.of(point_id))


async def _find_folder(repository: Repository, name: str, screen: Screen) -> Path:
    """Return the folder of a point, also of one that is damaged and named by its id."""
    try:
        return (await find_point(repository, name, screen)).path
    except RepositoryError:
        with suppress(NotFoundError):
            return await repository.find_folder(name)
        raise


def _tell(found: _Said, text: str, screen: Screen, *, dry_run: bool) -> None:
    if not dry_run:
        screen = screen.after_work()
    if screen.as_json:
        subject = {"point_id": found.point_id, "vm_id": found.vm_id}
        screen.result({"dry_run": dry_run, **subject, **said_fields(found.said)})
    else:
        would = "would have: " if dry_run else ""
        screen.line(f"point {found.point_id}: {would}{text}")
