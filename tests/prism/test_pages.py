"""A walk through a list that changes while it is read."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from ntxengine.errors import PrismAnswerError, PrismBusy, PrismStatusError
from ntxengine.prism.pages import Page, Pages, Window
from ntxengine.prism.pages import aligned_window as aligned

Change = Callable[["Server"], None]


def identify(raw: msgspec.Raw) -> str:
    return str(json.loads(bytes(raw)))


@dataclass
class Server:
    """A sorted list; `meanwhile` happens after every page, `cap` is the most that one page has.

    `own_length`: every page has so many, whatever is asked for.  `counts_the_page`: that is its total.
    """

    names: list[int]
    cap: int = 10**6
    has_total: bool = True
    has_next: bool = False
    is_counted_in_pages: bool = True
    meanwhile: Change = lambda _server: None
    asked: list[Window] = field(default_factory=list)
    is_order_refused: bool = False
    counts_the_page: bool = False
    orders: list[str] = field(default_factory=list)
    own_length: int | None = None

    async def page(self, window: Window) -> Page:
        length = self.own_length or min(window.length, self.cap)
        self.asked.append(window)
        # v4 counts in pages of what it gives, not of what was asked for.
        start = window.start // window.length * length if self.is_counted_in_pages else window.start
        names = self.names[start : start + length]
        total = len(names) if self.counts_the_page else len(self.names)
        page = Page(
            [msgspec.Raw(str(name).encode()) for name in names],
            total if self.has_total else None,
            self.has_next and start + length < len(self.names),
            "GET list",
        )
        self.meanwhile(self)
        return page

    async def ordered(self, window: Window) -> Page:
        self.orders.append("ordered")
        if self.is_order_refused:
            raise PrismStatusError("no order here", status=400)
        return await self.page(window)

    def pages(self, largest: int = 10) -> Pages:
        find = aligned if self.is_counted_in_pages else Window
        return Pages([self.ordered, self.page], identify=identify, next_window=find, largest=largest)


async def whole_or_refused(pages: Pages) -> list[int] | None:
    """Return what is listed, None where it is refused because of its pages."""
    try:
        return await read(pages)
    except PrismAnswerError as refused:
        if re.search(r"GET list: Prism gives \d+ entities where \d+ were asked for", str(refused)) is None:
            raise
        return None


async def read(pages: Pages) -> list[int]:
    return [int(found.id) async for found in pages]


def deleting(*names: int) -> Change:
    left = list(names)

    def delete(server: Server) -> None:
        if left:
            server.names.remove(left.pop(0))

    return delete


both = pytest.mark.parametrize("is_counted_in_pages", [True, False], ids=["v4", "v3"])
totals = pytest.mark.parametrize("has_total", [True, False], ids=["total", "no total"])


@both
@totals
@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 19, 20, 95, 1000])
@pytest.mark.parametrize("cap", [10**6, 7, 3, 2, 1])
async def test_every_entity_comes_once(is_counted_in_pages: bool, has_total: bool, count: int, cap: int) -> None:
    server = Server(list(range(count)), cap, has_total, is_counted_in_pages=is_counted_in_pages)

    assert await read(server.pages()) == list(range(count))


@both
async def test_a_list_of_one_page_is_one_request(is_counted_in_pages: bool) -> None:
    server = Server(list(range(9)), is_counted_in_pages=is_counted_in_pages)

    await read(server.pages())

    assert len(server.asked) == 1


async def test_a_long_list_takes_few_requests_more_than_it_has_pages() -> None:
    server = Server(list(range(5000)))

    assert len(await read(server.pages(100))) == 5000
    assert len(server.asked) <= 60
    assert all(window.start % window.length == 0 for window in server.asked)


@both
@totals
@pytest.mark.parametrize("gone", [(0,), (9,), (8, 9), (0, 1, 2), (5, 4, 3, 2, 1, 0), (3, 25, 4)])
async def test_what_vanishes_between_pages_takes_nobody_along(
    is_counted_in_pages: bool, has_total: bool, gone: tuple[int, ...]
) -> None:
    server = Server(
        list(range(40)), has_total=has_total, is_counted_in_pages=is_counted_in_pages, meanwhile=deleting(*gone)
    )

    found = await read(server.pages())

    assert set(found) >= set(range(40)) - set(gone)
    assert len(found) == len(set(found))


@both
@totals
async def test_one_made_for_each_that_vanishes_hides_nobody(is_counted_in_pages: bool, has_total: bool) -> None:
    """The total never moves, and yet one moves from a page that was not read into one that was."""

    def replace(server: Server) -> None:
        if len(server.asked) <= 3:
            server.names.pop(0)
            server.names.append(server.names[-1] + 1)

    server = Server(list(range(40)), has_total=has_total, is_counted_in_pages=is_counted_in_pages, meanwhile=replace)

    assert set(await read(server.pages())) >= set(range(3, 40))


@both
@totals
@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_meanwhile_who_stays_is_listed(
    is_counted_in_pages: bool, has_total: bool, seed: int
) -> None:
    chance = random.Random(seed)
    names = chance.sample(range(10_000), chance.randrange(1, 300))
    stay = set(names)

    def change(server: Server) -> None:
        for _ in range(chance.choice([0, 0, 1, 2])):
            if chance.random() < 0.5 and server.names:
                gone = chance.choice(server.names)
                server.names.remove(gone)
                stay.discard(gone)
            else:
                server.names = sorted({*server.names, chance.randrange(10_000)})

    server = Server(
        sorted(names),
        chance.choice([10**6, 17, 8]),
        has_total,
        is_counted_in_pages=is_counted_in_pages,
        meanwhile=change,
    )

    found = await read(server.pages(20))

    assert stay <= set(found)
    assert len(found) == len(set(found))


async def test_a_next_link_counts_more_than_a_total() -> None:
    server = Server(list(range(25)), has_next=True)

    async def lying(window: Window) -> Page:
        page = await server.page(window)
        return Page(page.items, 5, page.has_next, page.request)

    pages = Pages([lying], identify=identify, next_window=aligned, largest=10)

    assert await read(pages) == list(range(25))


@both
@pytest.mark.parametrize("cap", [10**6, 99, 50, 20])
@pytest.mark.parametrize("count", [19, 20, 50, 99, 100, 101, 199, 200, 500])
async def test_a_total_of_the_page_is_not_one_of_the_list(is_counted_in_pages: bool, cap: int, count: int) -> None:
    server = Server(list(range(count)), cap, is_counted_in_pages=is_counted_in_pages, counts_the_page=True)

    assert await read(server.pages(100)) == list(range(count))


@both
async def test_an_order_that_changes_is_seen_also_where_pages_are_counted(is_counted_in_pages: bool) -> None:
    server = Server(
        list(range(500)), is_counted_in_pages=is_counted_in_pages, counts_the_page=True, meanwhile=shuffling(500, 1)
    )

    with pytest.raises(PrismBusy):
        await read(server.pages(100))


async def test_an_order_that_is_refused_is_left_out() -> None:
    server = Server(list(range(25)), is_order_refused=True)

    assert await read(server.pages()) == list(range(25))
    assert server.orders == ["ordered"]


async def test_a_count_that_is_never_reached_is_told(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(list(range(25)))

    async def hiding(window: Window) -> Page:
        page = await server.page(window)
        return Page(page.items, 30, False, page.request)

    pages = Pages([hiding], identify=identify, next_window=aligned, largest=10)

    assert await read(pages) == list(range(25))
    assert caplog.messages == ["GET list: Prism counts 30 and shows 25 of them"]


async def test_a_list_that_never_holds_still_ends_as_busy() -> None:
    server = Server(list(range(100)))
    chance = random.Random(1)

    def shuffle(server: Server) -> None:
        server.names = chance.sample(range(10**6), 100)

    server.meanwhile = shuffle

    with pytest.raises(PrismBusy, match="the list changed each of the 4 times that it was read: try again later"):
        await read(server.pages())


async def test_a_list_that_has_no_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.prism.pages.MAX_PAGES", 20)
    server = Server(list(range(10**5)))

    with pytest.raises(PrismAnswerError, match="the list does not end: stopped after 20 pages"):
        await read(server.pages())


@both
@totals
@pytest.mark.parametrize("own_length", [3, 20])
@pytest.mark.parametrize("largest", [10, 100])
async def test_pages_of_another_length_than_asked_for_lose_nobody(
    is_counted_in_pages: bool, has_total: bool, own_length: int, largest: int
) -> None:
    for count in (0, 1, own_length - 1, own_length, own_length + 1, 2 * own_length, 1000):
        names = list(range(count))
        server = Server(names, has_total=has_total, is_counted_in_pages=is_counted_in_pages, own_length=own_length)

        listed = await whole_or_refused(server.pages(largest))

        assert listed == names or (listed is None and is_counted_in_pages and count > min(own_length, largest))


def shuffling(tied: int, seed: int) -> Change:
    """Return what changes the order after every page, among each `tied` neighbours."""
    chance = random.Random(seed)

    def shuffle(server: Server) -> None:
        names = server.names
        for at in range(0, len(names), tied):
            names[at : at + tied] = chance.sample(names[at : at + tied], len(names[at : at + tied]))

    return shuffle


@both
@pytest.mark.parametrize("tied", [2, 3])
@pytest.mark.parametrize("seed", range(3))
async def test_neighbours_that_change_places_with_every_page_lose_nobody(
    is_counted_in_pages: bool, tied: int, seed: int
) -> None:
    change = shuffling(tied, seed)
    server = Server(list(range(1000)), has_total=False, is_counted_in_pages=is_counted_in_pages, meanwhile=change)

    assert sorted(await read(server.pages(100))) == list(range(1000))


@both
@pytest.mark.parametrize("seed", range(3))
async def test_a_list_without_an_order_is_not_taken_for_a_whole_one(is_counted_in_pages: bool, seed: int) -> None:
    change = shuffling(1000, seed)
    server = Server(list(range(1000)), has_total=False, is_counted_in_pages=is_counted_in_pages, meanwhile=change)

    with pytest.raises(PrismBusy):
        await read(server.pages(100))


@both
async def test_the_same_page_for_ever_is_refused(is_counted_in_pages: bool) -> None:
    server = Server(list(range(100)), has_total=False, is_counted_in_pages=is_counted_in_pages)

    async def first(window: Window) -> Page:
        return await server.page(Window(0, window.length))

    pages = Pages([first], identify=identify, next_window=Window, largest=10)

    with pytest.raises(PrismAnswerError, match="GET list: Prism gives the same entities for one page after the other"):
        await read(pages)


async def test_a_server_that_knows_no_pages_gives_everything_at_once() -> None:
    async def everything(_window: Window) -> Page:
        return Page([msgspec.Raw(str(name).encode()) for name in range(250)], None, False, "GET list")

    assert await read(Pages([everything], identify=identify, next_window=Window, largest=10)) == list(range(250))


async def test_a_count_without_a_list_is_refused() -> None:
    async def empty(_window: Window) -> Page:
        return Page([], 5, False, "GET list")

    with pytest.raises(PrismAnswerError, match="GET list: Prism counts 5 and lists none of them"):
        await read(Pages([empty], identify=identify, next_window=Window, largest=10))
