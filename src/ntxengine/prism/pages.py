"""Walk through a list of Prism's that may change while it is read, and lose nobody.

Lists come in pages by position, so an entity that is deleted behind us moves the others up, and one of them slips from
the page that comes next into the one that was read.  No total shows it: another may have been made meanwhile.  So every
page begins inside the one before it:

    page 1   a b c d
    page 2         d e f g        begins with one that we know: nothing is missing between them
    page 3               h i j    does not: g or more moved up, go back a page and read on from there

In an order that does not change, a page is without gaps, so this proves it, whatever was made or deleted meanwhile.
Neither `next` links nor totals are needed for it, and a server may give less than it is asked for.  A total is one more
proof: if fewer came than it says, the order did change, and the list is read again.  Without a total it is
read again also where one that we know comes behind one that we do not: there the order changes from page to page.

Some servers count the page where they should count the list.  So a total is dropped where the page itself reaches
beyond it, and one that is just as much as a first page holds ends a list only where that is plainly short.

Pages that a server places as it likes, whatever it is asked for, cannot be laid over one another.  They are refused.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ntxengine.errors import PrismAnswerError, PrismBusy, PrismStatusError
from ntxengine.prism.http.parse import MAX_PAGES

MAX_WALKS = 4
"""How often a list is read until it is known to be whole."""

MAX_STEPS_BACK = 50
"""How often a walk goes back.  A cluster where more is deleted in the meantime is not one to read a list from."""

MAX_STALE = 5
"""How many pages in a row may bring nothing new: a server that does not know pages gives the same ones for ever.

That is the whole list if it is less than was asked for."""

SHORTEST_PAGE = 20
"""No server is known that gives fewer entities a page for reasons of its own: v3 gives 20 where nothing is asked for.

LIMIT: of one that does, and counts only them, no more than its first page is seen."""

_REFUSED = frozenset({400, 422})
"""What a server says to an order or a filter that it does not have."""

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """Which part of a list is asked for: positions, from 0."""

    start: int
    length: int


def aligned_window(position: int, largest: int) -> Window:
    """Return the window that holds `position` and reaches farthest, where servers count pages: its start is a
    multiple of its length."""
    windows = (Window(position // length * length, length) for length in range(1, largest + 1))
    return max(windows, key=sum)


@dataclass(frozen=True)
class Page:
    """What came: entities as bytes, how many there are in all if Prism says so, and whether it says more follow."""

    items: Sequence[msgspec.Raw]
    total: int | None
    has_next: bool
    request: str


class Listed(NamedTuple):
    """An entity of a list, still as bytes, its id ("" if it has none), and the request that brought it."""

    id: str
    raw: msgspec.Raw
    request: str


Ask = Callable[[Window], Awaitable[Page]]
NextWindow = Callable[[int, int], Window]


@dataclass
class _Walk:
    """One reading of the list, from its beginning: what was seen, and how far we are."""

    largest: int
    seen: set[str] = field(default_factory=set)
    position: int = 0
    start_before: int = 0
    farthest: int = 0
    most_asked: int = 0
    excess: str = ""
    steps_back: int = 0
    stale: int = 0
    is_overlapping: bool = True
    total: int | None = None
    request: str = ""

    def window(self, next_window: NextWindow) -> Window:
        """Return what is asked for next: from the last one that we know on, so that pages overlap."""
        if self.position == 0:
            return Window(0, self.largest)
        found = next_window(self.position - 1, self.largest)
        # A window that is very small may not be able to hold both one that we know and one that we do not.
        return found if sum(found) > self.position else next_window(self.position, self.largest)

    def take(self, window: Window, keys: Sequence[str], page: Page) -> bool:
        """Note what a page brought; return whether more is to be read."""
        self.request = page.request
        self.most_asked = max(self.most_asked, window.length)
        reached = window.start + len(keys)
        total = page.total if page.total is not None and page.total >= reached else None
        if total is not None:
            # Who was made behind us is not missing: the smallest counts.
            self.total = total if self.total is None else min(self.total, total)
        if len(keys) > window.length:
            self.excess = f"{len(keys)} entities where {window.length} were asked for"
        if window.start >= self.position:
            self.is_overlapping &= window.start == 0
        elif not keys or keys[0] not in self.seen:
            if self.excess:
                raise self._misplaced(self.excess)
            if self.steps_back < MAX_STEPS_BACK:
                self.steps_back += 1
                self.position, self.start_before = self.start_before, 0
                return True
            self.is_overlapping = False
        else:
            known = [key in self.seen for key in keys]
            self.is_overlapping &= total is not None or known == sorted(known, reverse=True)
        if not self.seen.issuperset(keys):
            self.stale = 0
        elif reached > self.farthest:
            self.stale += 1
        self.seen.update(keys)
        self.farthest = max(self.farthest, reached)
        is_short = len(keys) < window.length
        may_be_its_own = window.start == 0 and len(keys) >= SHORTEST_PAGE
        is_all = is_short and reached == total and not may_be_its_own and not page.has_next
        if is_all or reached <= self.position:
            return False
        if self.stale and len(keys) > window.length:
            return False
        if self.stale > MAX_STALE and len(self.seen) >= self.most_asked:
            raise self._misplaced("the same entities for one page after the other")
        if self.stale > MAX_STALE:
            self.is_overlapping = False
            return False
        if is_short:
            self.largest = max(1, len(keys))
        self.position, self.start_before = reached, window.start
        return True

    def _misplaced(self, what: str) -> PrismAnswerError:
        return PrismAnswerError(f"{self.request}: Prism gives {what}: this list cannot be read page by page")

    @property
    def is_whole(self) -> bool:
        """Whether nothing can be missing."""
        return self.is_overlapping and (self.total is None or len(self.seen) >= self.total)


class Pages:
    """All entities of a list, each once.

    `asks` ask for a window of it, the one that asks for most first (an order, a filter): one that the server refuses
    gives way to the next.  `next_window` returns the window that holds a position and reaches farthest behind it.
    """

    def __init__(
        self, asks: Sequence[Ask], *, identify: Callable[[msgspec.Raw], str], next_window: NextWindow, largest: int
    ) -> None:
        self._asks = list(asks)
        self._identify = identify
        self._next_window = next_window
        self._largest = largest

    async def __aiter__(self) -> AsyncIterator[Listed]:
        """Yield them as they come, those that have no id too.

        Errors: PrismBusy if the list changes faster than it can be read; as asking.
        """
        given: set[str] = set()
        before: set[str] | None = None
        for _ in range(MAX_WALKS):
            walk = _Walk(self._largest)
            async for listed, key in self._read(walk):
                if key not in given:
                    given.add(key)
                    yield listed
            if walk.is_whole:
                return
            if walk.total and not walk.seen:
                raise PrismAnswerError(f"{walk.request}: Prism counts {walk.total} and lists none of them")
            if walk.seen == before:
                if walk.total is not None and len(before) < walk.total:
                    log.warning("%s: Prism counts %d and shows %d of them", walk.request, walk.total, len(before))
                return
            before = walk.seen
            log.debug("%s: the list changed while it was read, %d of %s: again", walk.request, len(before), walk.total)
        raise PrismBusy(
            f"{walk.request}: the list changed each of the {MAX_WALKS} times that it was read: try again later"
        )

    async def _read(self, walk: _Walk) -> AsyncIterator[tuple[Listed, str]]:
        """Yield the entities of one walk with what they are told apart by."""
        for _ in range(MAX_PAGES):
            window = walk.window(self._next_window)
            page = await self._ask(window)
            keys = []
            for raw in page.items:
                found = self._identify(raw)
                keys.append(found or bytes(raw).decode(errors="replace"))
                yield Listed(found, raw, page.request), keys[-1]
            if not walk.take(window, keys, page):
                return
        raise PrismAnswerError(f"{walk.request}: the list does not end: stopped after {MAX_PAGES} pages")

    async def _ask(self, window: Window) -> Page:
        while True:
            try:
                return await self._asks[0](window)
            except PrismStatusError as exc:
                if exc.status not in _REFUSED or len(self._asks) == 1:
                    raise
                log.debug("asking for less: %s", exc)
                del self._asks[0]
