"""What is to stay of a VM and what is not, as people and rules said.

A forgotten point is hidden: it is listed only if asked for, is never the newest, and no capture goes on top of it.  Its
files stay as long as other points need them, or nobody prunes.  Only a forgotten point is ever removed, and one that is
held is never forgotten.

LIMIT: whether a hold is over is what this machine's clock says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from ntxengine.errors import OptionsError, RepositoryError
from ntxengine.units import format_time

MAX_TAG = 64
MAX_TAGS = 64
MAX_REASON = 256
"""Characters of a tag, tags of a point, characters of a reason: they stand in tables."""

_TAG_SIGNS = "._:+@=/-"


@dataclass(frozen=True)
class Hold:
    """Nothing removes the point before `until`; None: before the hold is released."""

    until: datetime | None = None
    reason: str = ""

    def is_over(self, now: datetime) -> bool:
        """Say whether it keeps nothing any more."""
        return self.until is not None and self.until <= now


@dataclass(frozen=True)
class PointRetention:
    """What was said of a point.  `tags` are sorted."""

    tags: tuple[str, ...] = ()
    hold: Hold | None = None
    forgotten_at: datetime | None = None

    def is_held(self, now: datetime) -> bool:
        """Say whether the point may not be forgotten now."""
        return self.hold is not None and not self.hold.is_over(now)


_NOTHING = PointRetention()


@dataclass(frozen=True)
class Retention:
    """What was said of the points of a VM, by point id.  Entries of points that are gone may be among them.

    Every change returns another one; retention_file.change stores it.
    """

    points: Mapping[str, PointRetention] = field(default_factory=dict)

    def of(self, point_id: str) -> PointRetention:
        """Return what was said of a point, also if that is nothing."""
        return self.points.get(point_id, _NOTHING)

    def is_forgotten(self, point_id: str) -> bool:
        return self.of(point_id).forgotten_at is not None

    def is_held(self, point_id: str, now: datetime) -> bool:
        return self.of(point_id).is_held(now)

    @property
    def forgotten(self) -> frozenset[str]:
        """The ids of the points that are forgotten."""
        return frozenset(point_id for point_id in self.points if self.is_forgotten(point_id))

    def forget(self, point_ids: Iterable[str], now: datetime) -> Retention:
        """Forget points; one that is forgotten already stays so since then.

        Errors: RepositoryError naming a point that is held.
        """
        changed = {}
        for point_id in point_ids:
            found = self.of(point_id)
            if found.hold is not None and found.is_held(now):
                raise RepositoryError(
                    f"point {point_id} is held {hold_text(found.hold)}: `ntx hold {point_id} --release` releases it"
                )
            if found.forgotten_at is None:
                changed[point_id] = replace(found, forgotten_at=now)
        return self._with(changed)

    def bring_back(self, point_ids: Iterable[str]) -> Retention:
        """Forget points no more.  The caller has the lock of the VM, so that nobody prunes them meanwhile."""
        return self._with({point_id: replace(self.of(point_id), forgotten_at=None) for point_id in point_ids})

    def tag(self, point_id: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Retention:
        """Give a point tags, and take others from it.

        Errors: OptionsError (what is no tag, too many); RepositoryError (the point is forgotten).
        """
        found = self._not_forgotten(point_id)
        tags = tuple(sorted({*found.tags, *map(checked_tag, add)} - set(remove)))
        if len(tags) > MAX_TAGS:
            raise OptionsError(f"point {point_id} would have {len(tags)} tags: {MAX_TAGS} at most")
        return self._with({point_id: replace(found, tags=tags)})

    def hold(self, point_id: str, hold: Hold | None) -> Retention:
        """Hold a point, in the place of what held it before; None releases it.

        Errors: OptionsError (the reason is too long); RepositoryError (the point is forgotten).
        """
        if hold is not None and not is_reason(hold.reason):
            raise OptionsError(f"the reason of a hold is one line of {MAX_REASON} characters at most")
        return self._with({point_id: replace(self._not_forgotten(point_id), hold=hold)})

    def without(self, point_ids: Iterable[str]) -> Retention:
        """Leave out what was said of points."""
        return self._with(dict.fromkeys(point_ids, _NOTHING))

    def _not_forgotten(self, point_id: str) -> PointRetention:
        if self.is_forgotten(point_id):
            raise RepositoryError(
                f"point {point_id} is forgotten: `ntx forget --undo {point_id}` brings it back, unless it was pruned"
            )
        return self.of(point_id)

    def _with(self, changed: Mapping[str, PointRetention]) -> Retention:
        points = {**self.points, **changed}
        return Retention({point_id: found for point_id, found in points.items() if found != _NOTHING})


def hold_text(hold: Hold) -> str:
    """Return how long, and why: `until 2027-01-01T00:00:00Z (audit)`."""
    until = "until it is released" if hold.until is None else f"until {format_time(hold.until)}"
    return f"{until} ({hold.reason})" if hold.reason else until


def is_tag(text: str) -> bool:
    """Say whether `text` can be a tag: letters, digits and . _ : + @ = / -, which it must not begin with."""
    return (
        0 < len(text) <= MAX_TAG
        and not text.startswith("-")
        and all(sign.isalnum() or sign in _TAG_SIGNS for sign in text)
    )


def checked_tag(text: str) -> str:
    """Return a tag.  Errors: OptionsError if it is none."""
    if not is_tag(text):
        raise OptionsError(
            f"{text[:80]!r} is no tag: letters, digits and {' '.join(_TAG_SIGNS)}, {MAX_TAG} at most, and no - at the "
            f"beginning"
        )
    return text


def is_reason(text: str) -> bool:
    """Say whether `text` can be the reason of a hold: one line."""
    return len(text) <= MAX_REASON and (text.isprintable() or not text)
