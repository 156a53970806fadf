"""What a capture of one disk must read, and how that was found out.

In this order; every step down is announced with its reason and its price, and recorded in the point:

    changed regions since the reference     v4-changed-regions, v3-changed-regions
    everything, compared with the digests   digest-scan      (on lost tracking: scan)
    what is allocated                       allocated        (a first capture, or on lost tracking: full)
    everything                              full             (Prism cannot even tell what is allocated)

Where an audit has found that the cluster tells too little, it is asked nothing of that disk: everything.

"Nothing" is believed only where it costs nothing to be wrong:

    no region, a size, with a reference     nothing changed
    no region, a size, without a reference  a disk without one allocated byte: read whole, since it may not be true
    no region, no size, with a reference    no answer: an error
    no region, no size, without one         no answer: read whole

LIMIT: where Prism reports some regions of a disk that is captured in full, the rest is taken to be zero, as the API
describes it.  A cluster that reports too little makes a copy that lacks it; `ntx verify` cannot know, an audit can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from ntxengine.changes.blocks import in_whole_blocks
from ntxengine.changes.spool import RegionSpool, spool_to_file
from ntxengine.dataplane import extents
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import ExtentFile
from ntxengine.errors import NotFoundError, NtxError, PrismAnswerError, PrismStatusError
from ntxengine.prism.cluster import ChangedRegions
from ntxengine.prism.models import DiskPoint
from ntxengine.units import GIB, format_size

Tracking = Literal["v4-changed-regions", "v3-changed-regions", "digest-scan", "allocated", "full"]
OnLostTracking = Literal["scan", "full", "fail"]
ON_LOST_TRACKING: tuple[OnLostTracking, ...] = get_args(OnLostTracking)

_CHEAP_TO_READ = GIB
"""Reading this much for nothing takes seconds: a disk up to this size is read without a warning."""

_TRACKING: dict[str, Tracking] = {"v4": "v4-changed-regions", "v3": "v3-changed-regions"}


@dataclass(frozen=True)
class Previous:
    """The captured disk that an incremental goes on top of.

    `reference` is its disk recovery point if the cluster still has it; otherwise `lost` says why not.
    """

    size: int
    reference: DiskPoint | None
    lost: str = ""

    @classmethod
    def of(cls, size: int, reference: DiskPoint | None, lost: str, *, now: DiskPoint) -> Previous:
        """Return the same without its reference where that is of another file on storage than `now`."""
        if reference is not None and reference.path is not None and now.path is not None:
            before, name = PurePosixPath(reference.path).name, PurePosixPath(now.path).name
            if before != name:
                # The VM was restored or the disk was moved: what Prism would compare is not one disk over time.
                return cls(size, None, f"the disk's file on storage was {before} and is {name}")
        return cls(size, reference, lost)


@dataclass(frozen=True)
class Changes:
    """What to read.  The caller closes `extents`.

    `is_incremental`: the rest is in the previous point.  `must_compare`: `extents` is no answer about changes, send
    only the blocks whose digest is not the previous one.  `size` is the disk's, as Prism said with the regions, or
    the VM's configuration where it said nothing.  `reason` says why nothing better could be done, "" for the best.
    """

    tracking: Tracking
    reason: str
    is_incremental: bool
    must_compare: bool
    size: int
    extents: ExtentFile

    @property
    def bytes_data(self) -> int:
        return self.extents.bytes_data

    @property
    def bytes_zero(self) -> int:
        return self.extents.bytes_zero


@dataclass(frozen=True)
class ChangeQuery:
    """What is the same in every request about one disk: where to ask, which disk, and where regions are kept.

    `options`: of the copy that follows, whose limit of memory holds for this, too.
    """

    prism: ChangedRegions
    disk: DiskPoint
    name: str
    size: int
    directory: Path
    warn: Callable[[str], None]
    options: CopyOptions = field(default_factory=CopyOptions)


@dataclass(frozen=True)
class _LostTracking:
    """Why there are no changed regions.  A disk that shrank does not fit on top of the previous one: full."""

    reason: str
    has_shrunk: bool


class _SaysNothingError(PrismAnswerError):
    """Changed regions with neither a region nor a size."""


async def find_changes(
    query: ChangeQuery,
    previous: Previous | None,
    *,
    on_lost_tracking: OnLostTracking,
    reason_without: str = "",
    is_asked_for: bool = False,
    distrusted: str = "",
) -> Changes:
    """Return what must be read of a disk, in the best way that works.

    `reason_without` says why there is no previous disk where one could be expected; if that `is_asked_for` it is no
    reason to warn.  `distrusted` says why the cluster is not believed about this disk: it is not even asked then, also
    not for what is allocated.
    Errors: PrismAnswerError (regions that cannot be true: refused, never worked around), PrismTimeout, PrismBusy,
            PrismConnectionError, CredentialsError (the cluster may well answer later: no reason to read everything),
            NtxError (tracking is lost and on_lost_tracking is "fail").
    """
    if distrusted:
        has_shrunk = previous is not None and query.size < previous.size
        found: Changes | _LostTracking = _LostTracking(distrusted, has_shrunk)
    elif previous is None:
        return await _in_full(query, reason_without, is_asked_for=is_asked_for)
    else:
        found = await _changed(query, previous)
    if isinstance(found, Changes):
        return found
    if on_lost_tracking == "fail":
        raise NtxError(
            f"{query.name}: no changed regions ({found.reason}), and reading the disk "
            f"({format_size(query.size)}) instead was not allowed: allow it with --on-lost-tracking scan or full"
        )
    if not distrusted and (on_lost_tracking == "full" or found.has_shrunk):
        return await _in_full(query, found.reason)
    return await _everything(query, found.reason, is_incremental=previous is not None and not found.has_shrunk)


async def read_all_instead(changes: Changes, reason: str, directory: Path) -> Changes:
    """Return the same of a disk of which the cluster told what is not so: everything, compared with the digests of the
    previous point where there is one.  The caller closes the extents of both.
    """
    everything = await spool_to_file([extents.whole(changes.size)], directory)
    tracking: Tracking = "digest-scan" if changes.is_incremental else "full"
    return Changes(tracking, reason, changes.is_incremental, changes.is_incremental, changes.size, everything)


async def _everything(query: ChangeQuery, reason: str, *, is_incremental: bool) -> Changes:
    """All of the disk, compared with the digests of the previous point where there is one; with a warning."""
    what = "sending the blocks whose digest differs from the previous point's" if is_incremental else "storing it anew"
    query.warn(
        f"{query.name}: no changed regions ({reason}): reading the whole disk, {format_size(query.size)}, and {what}"
    )
    everything = await spool_to_file([extents.whole(query.size)], query.directory)
    tracking: Tracking = "digest-scan" if is_incremental else "full"
    return Changes(tracking, reason, is_incremental, is_incremental, query.size, everything)


async def _changed(query: ChangeQuery, previous: Previous) -> Changes | _LostTracking:
    """Ask for what differs from the reference."""
    if previous.reference is None:
        return _lost_tracking(query.size, previous, previous.lost)
    try:
        size, spool = await _ask(query, previous.reference)
    except (NotFoundError, PrismStatusError) as error:
        return _lost_tracking(query.size, previous, str(error))
    try:
        if size < previous.size:
            return _lost_tracking(size, previous, "")
        if size > previous.size:
            # No document says that regions describe the new tail.  The block that the old end cut off is in it as well,
            # as the digest changes with its length: regions become whole blocks.
            spool.add(extents.make([(previous.size, size - previous.size, 0)]))
        found = await _in_order(query, spool, size)
    finally:
        spool.close()
    return Changes(_TRACKING[query.prism.family], "", True, False, size, found)


def _lost_tracking(size: int, previous: Previous, reason: str) -> _LostTracking:
    if size < previous.size:
        return _LostTracking(f"the disk shrank from {previous.size} to {size} bytes", True)
    return _LostTracking(reason, False)


async def _in_full(query: ChangeQuery, reason: str, *, is_asked_for: bool = False) -> Changes:
    """Everything that is allocated, or everything if Prism cannot tell; with a warning if there is a `reason`."""
    try:
        size, spool = await _ask(query, None)
    except (NotFoundError, PrismStatusError, _SaysNothingError) as error:
        why = f"allocated regions: {error}"
        query.warn(f"{query.name}: no {why}: reading the whole disk, {format_size(query.size)}")
        everything = await spool_to_file([extents.whole(query.size)], query.directory)
        return Changes("full", f"{reason}; {why}" if reason else why, False, False, query.size, everything)
    doubt = ""
    try:
        if spool.is_empty:
            spool.add(extents.whole(size))
            doubt = "Prism reports not one allocated byte" if size > _CHEAP_TO_READ else ""
        found = await _in_order(query, spool, size)
    finally:
        spool.close()
    if doubt:
        query.warn(f"{query.name}: {doubt}: making sure by reading the whole disk, {format_size(size)}")
    elif reason and not is_asked_for:
        query.warn(
            f"{query.name}: is captured in full ({reason}): copying all that is allocated, "
            f"{format_size(found.bytes_data)} of {format_size(size)}"
        )
    return Changes("allocated", "; ".join(text for text in (reason, doubt) if text), False, False, size, found)


async def _in_order(query: ChangeQuery, spool: RegionSpool, size: int) -> ExtentFile:
    """Return the regions as extents, put in order within the memory that there is for it."""
    async with query.options.reserve(f"{query.name}: its changed regions", spool.memory_sizes) as granted:
        spool.keep_within(granted)
        return await spool_to_file(in_whole_blocks(spool.windows(), size), query.directory)


async def _ask(query: ChangeQuery, reference: DiskPoint | None) -> tuple[int, RegionSpool]:
    """Ask Prism, and say of an answer that is refused which disk it is about, and what can be done."""
    try:
        return await _regions(query, reference)
    except PrismAnswerError as error:
        is_read_anyway = reference is None and isinstance(error, _SaysNothingError)
        remedy = "" if is_read_anyway else "; --scan reads the disk instead"
        raise type(error)(f"{query.name}: {error}{remedy}") from error


async def _regions(query: ChangeQuery, reference: DiskPoint | None) -> tuple[int, RegionSpool]:
    """Return the disk's size and its regions.  The caller closes the spool.

    The size that comes with the regions is that of the recovery point.  The VM's may be another by now, so the first
    wins; that the attached disk agrees is checked when it is attached.
    """
    size: int | None = None
    is_size_told = False
    spool: RegionSpool | None = None
    try:
        async for page in query.prism.changed_regions(query.disk, reference):
            if size is None or spool is None:
                size = query.size if page.disk_size is None else page.disk_size
                spool = RegionSpool(query.directory, size=size)
            is_size_told = is_size_told or page.disk_size is not None
            spool.add(page.regions)
        if size is None or spool is None:
            raise PrismAnswerError("Prism answered with no page of changed regions at all")
        if spool.is_empty and not is_size_told:
            raise _SaysNothingError("Prism answered with neither a region nor the size of the disk: it says nothing")
    except BaseException:
        if spool is not None:
            spool.close()
        raise
    return size, spool
