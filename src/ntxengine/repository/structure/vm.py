"""The folder of a VM: what stands beside its points, what killed captures and prunes left, and then each point.

What changes while it is looked at is looked at again; of what changes each time, damage is left to the next check.
While somebody works on the VM nothing is a leftover: what looks like one is being made or removed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ntxengine import files
from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.repository import cluster_record, distrust, interrupted, layout, retention_file, sampled, strays
from ntxengine.repository.lock import is_held
from ntxengine.repository.scan import Scan, scan
from ntxengine.repository.structure.finding import Finding, Findings, Kind, Place, Severity
from ntxengine.repository.structure.names import HALF_WRITTEN, find_readable, listed, unknown
from ntxengine.repository.structure.point import COPY, Line, inspect_damaged, inspect_point

_TRIES = 3
_LIMIT = 64 * 1024**2

_PLAIN = (layout.LOCK_FILE, layout.RETENTION_LOCK_FILE)
_BY_VERIFY = f".{layout.SAMPLES_FILE}."
"""What is written without the lock of the VM, by who verifies: one that is young may be about to get its name."""

_KNOWN = (*_PLAIN, layout.DISTRUST_FILE, layout.SAMPLES_FILE, layout.RETENTION_FILE)


def inspect_vm(
    folder: Path, now: datetime, *, is_ours: bool = False, is_stopped: Callable[[], bool] = lambda: False
) -> Findings:
    """Return what is wrong in the folder of a VM.

    `is_ours`: the caller has the lock of the VM, so that nobody else works on it.  `is_stopped` is asked between
    points; what is found after it says so is not whole.
    Blocks: reads every manifest, and of each image the header.
    Errors: RepositoryError if the folder cannot be read.
    """
    for _ in range(_TRIES):
        is_used, before = not is_ours and is_held(folder), _state(folder)
        found = _inspect(folder, now, is_stopped)
        is_used = is_used or (not is_ours and is_held(folder))
        after = _state(folder)
        if is_stopped() or after == before:
            break
    else:
        found = _settled(found, {name for name, _ in {*before} ^ {*after}})
        is_used = True
    if not is_used:
        return found
    kept = [each for each in found.found if each.severity is not Severity.LEFTOVER]
    text = "is being captured or pruned: what it may have left is not told of, nor what changes all the time"
    kept.append(Place(folder.name).note("in-use", folder, text, "check it again when that has ended"))
    return replace(found, found=kept)


def _state(folder: Path) -> list[tuple[str, int]]:
    """Return what changes when points come, go or are made anew."""
    found = []
    for name in listed(folder) if folder.is_dir() else []:
        with suppress(OSError):
            found.append((name, (folder / name / layout.POINT_FILE).lstat().st_mtime_ns))
    return found


def _settled(found: Findings, changed: set[str]) -> Findings:
    """Return what was found but for damage of points that changed meanwhile, or that are on top of one that did."""
    shaken = changed | {point.id for point in found.points if point.parent_id in changed}
    kept = [each for each in found.found if each.severity is not Severity.DAMAGE or each.point_id not in shaken]
    return replace(found, found=kept)


def _inspect(folder: Path, now: datetime, is_stopped: Callable[[], bool]) -> Findings:
    place = Place(folder.name)
    try:
        scanned = scan(folder.parent, {}, folder.name)
        names = listed(folder)
    except OSError as exc:
        raise durable.read_error(folder, exc) from exc
    result = Findings(points=scanned.points, count=len(scanned.folders()))
    result.found += _files(place, folder, names)
    result.found += _said(place, folder, scanned)
    result.found += _left(place, folder, names, now)
    result.found += find_readable(place, folder, [folder, *(folder / name for name in names)])
    result.found += [
        _unlisted(replace(place, point_id=path.name), path, error) for path, error in scanned.damaged.items()
    ]
    result.found += _points(scanned, result.whole, is_stopped)
    return result


def _unlisted(place: Place, folder: Path, error: RepositoryError) -> Finding:
    is_folder = folder.is_dir() and not folder.is_symlink()
    paths = [folder / layout.SUMS_FILE, folder / layout.POINT_FILE, folder]
    return place.from_error("point" if is_folder else "link", error, paths, COPY)


def _points(scanned: Scan, whole: list[str], is_stopped: Callable[[], bool]) -> Iterator[Finding]:
    """Yield what is wrong with each point, oldest first, and enter those into `whole` with which nothing is."""
    line = Line(scanned.points, scanned.damaged)
    for damaged in scanned.damaged:
        if damaged.is_dir() and not damaged.is_symlink():
            yield from inspect_damaged(damaged)
    for point in scanned.points:
        if is_stopped():
            return
        found = list(inspect_point(point, line))
        if not any(each.severity is Severity.DAMAGE for each in found):
            whole.append(point.id)
        yield from found


# -------------------------------------------------------------------------------------------- files beside the points


def _files(place: Place, folder: Path, names: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with files that are read by themselves, and what nothing names."""
    for name in names:
        path = folder / name
        if name in _KNOWN:
            if problem := files.find_irregular(path):
                yield place.damage("link", path, problem, "remove it, or put the file itself there")
        elif not _is_ours(name):
            yield unknown(place, path)
    for text in cluster_record.read(folder).problems:
        paths = [folder / name for name in names if name.startswith(cluster_record.PREFIX)] or [folder]
        remedy = "put it back from a copy of the repository, or remove it: its recovery point then expires by itself"
        yield place.from_error("cluster-record", RepositoryError(text), paths, remedy)


def _is_ours(name: str) -> bool:
    return (
        layout.is_point_id(name)
        or name.startswith((layout.UNFINISHED_PREFIX, layout.REMOVED_PREFIX, cluster_record.PREFIX))
        or HALF_WRITTEN.fullmatch(name) is not None
    )


def _said(place: Place, folder: Path, scanned: Scan) -> Iterator[Finding]:
    """Yield what is wrong with what is said of the points: tags and holds, distrust, samples."""
    yield from _retention(place, folder)
    path = folder / layout.DISTRUST_FILE
    try:
        ids = {point.id for point in scanned.points}
        for point_id in dict.fromkeys(each.point_id for each in distrust.read(folder) if each.point_id in ids):
            yield replace(place, point_id=point_id).note(
                "distrust",
                folder / point_id,
                "may lack changes: an audit of a later capture found that the cluster had not told of all",
                "restore another point if it matters; see docs/troubleshooting.md, tracking distrusted",
            )
    except RepositoryError as exc:
        yield place.from_error("distrusted", exc, [path], COPY)
    yield from _without_check(place, "distrusted", path, COPY)
    samples = folder / layout.SAMPLES_FILE
    remedy = "`ntx repair` removes it: samples begin anew, nothing else depends on it"
    try:
        sampled.read_or_fail(folder)
    except RepositoryError as exc:
        yield place.from_error("sampled", exc, [samples], remedy)
    yield from _without_check(place, "sampled", samples, remedy)


def _retention(place: Place, folder: Path) -> Iterator[Finding]:
    path = folder / layout.RETENTION_FILE
    try:
        said = retention_file.read(folder)
    except RepositoryError as exc:
        yield place.from_error("retention", exc, [path], COPY)
        return
    missing = [point_id for point_id in said.points if not os.path.lexists(folder / point_id)]
    gone = [point_id for point_id in missing if said.is_forgotten(point_id)]
    if gone:
        yield place.leftover("gone-points", path, f"still tells of {len(gone)} pruned points, {gone[0]} among them")
    for point_id in missing:
        is_being_made = os.path.lexists(folder / f"{layout.UNFINISHED_PREFIX}{point_id}")  # by a sync
        if not said.is_forgotten(point_id) and not is_being_made:
            held = "is held" if said.of(point_id).hold is not None else "has tags"
            remedy = "put it back from a copy of the repository; if it was removed by hand, nothing brings it back"
            yield replace(place, point_id=point_id).damage(
                "missing-point", folder / point_id, f"is missing, and {held} in {layout.RETENTION_FILE}", remedy
            )


def _without_check(place: Place, kind: Kind, path: Path, remedy: str) -> Iterator[Finding]:
    """Yield the damage of a file that lost the name of its checksum: it would be taken for one of an older ntx."""
    with suppress(RepositoryError, ValueError, RecursionError):
        if not os.path.lexists(path):
            return
        document = json.loads(durable.read_file(path, limit=_LIMIT))
        if isinstance(document, dict) and "check" not in document and document.keys() - {"format", "version", "disks"}:
            yield place.damage(kind, path, "is damaged: its checksum is missing", remedy)


# ------------------------------------------------------------------------------------------------ what was left there


def _left(place: Place, folder: Path, names: Sequence[str], now: datetime) -> Iterator[Finding]:
    if set(names) <= {layout.LOCK_FILE}:
        yield place.leftover("empty-folder", folder, "is a folder of a VM without a point")
    for name in names:
        path = folder / name
        if HALF_WRITTEN.fullmatch(name):
            if name.startswith(_BY_VERIFY) and _age_s(path) < strays.OLD_S:
                continue
            yield place.leftover("half-written", path, "was to replace a file, and its writer was killed")
        elif name.startswith(layout.REMOVED_PREFIX):
            point = replace(place, point_id=_id_in(name, layout.REMOVED_PREFIX))
            yield point.leftover("removed-point", path, "is what is left of a point that was being removed")
    for each in interrupted.find(folder):
        point = replace(place, point_id=_id_in(each.path.name, layout.UNFINISHED_PREFIX))
        if each.can_be_resumed(now):
            text = "is a capture that was interrupted, and that the next one goes on with"
            yield point.note("interrupted", each.path, text, "`ntx capture` goes on; `ntx sweep --unfinished` gives up")
        elif each.is_of_sync:
            text = "is a point that was being copied here, and that the next sync goes on with"
            yield point.note("interrupted", each.path, text, "`ntx sync` goes on; `ntx sweep` gives up")
        else:
            why = each.problem.removeprefix(f"{each.path}: ") or "its recovery point has expired"
            text = f"is a capture that was interrupted, and that cannot be gone on with: {why}"
            yield point.leftover("unfinished-point", each.path, text)


def _age_s(path: Path) -> float:
    """Return how long ago a file was written; 0 if it is gone."""
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _id_in(name: str, prefix: str) -> str:
    found = name.removeprefix(prefix)
    return found if layout.is_point_id(found) else ""
