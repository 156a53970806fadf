"""The links of an export, each by itself: who is answered what."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from ntxengine.dataplane.extents import EXTENT, ZERO, ExtentFile
from ntxengine.errors import TargetError
from ntxengine.export import links as module
from ntxengine.export.ending import Ending
from ntxengine.export.links import ChangedDisk, Links, takes_zstd

ROWS = [(0, 65536, 0), (131072, 65536, ZERO), (262144, 131072, 0)]
DONE = {"result": "success", "recovery_point": "rp"}


class Recorded:
    """Keeps a recovery point, or fails to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


class Asked:
    """Links of two disks, of which the second has not changed, and who asks them."""

    def __init__(self, disks: list[ChangedDisk], keep: Recorded) -> None:
        self.keep = keep
        self.ending = Ending(keep)
        self.links = Links(disks, "rp", self.ending)
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(self.links.app), base_url="http://ntx")

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self._client.get(path, headers={"Accept-Encoding": "identity", **headers})

    async def say(self, path: str | None = None, **replaced: object) -> tuple[int, str]:
        return await self.post(json.dumps({**DONE, **replaced}).encode(), path)

    async def post(self, body: bytes, path: str | None = None) -> tuple[int, str]:
        answer = await self._client.post(path or self.links.done, content=body)
        return answer.status_code, answer.json().get("error", answer.json().get("result"))


@contextmanager
def asking(keep: Recorded | None = None) -> Iterator[Asked]:
    changed, same = ExtentFile(), ExtentFile()
    changed.append(np.array(ROWS, EXTENT))
    changed.flush()
    try:
        yield Asked([ChangedDisk("d0", "before", changed), ChangedDisk("d1", None, same)], keep or Recorded())
    finally:
        changed.close()
        same.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    monkeypatch.setattr(module, "PAGE_REGIONS", 2)
    with asking() as found:
        yield found


async def test_the_pages_of_a_disk_are_its_regions_in_order(asked: Asked) -> None:
    pages = [(await asked.get(path)).json() for path in asked.links.pages(0)]

    assert [(page["page"], page["pages"], page["disk_id"], page["since"]) for page in pages] == [
        (0, 2, "d0", "before"),
        (1, 2, "d0", "before"),
    ]
    told = [region for page in pages for region in page["regions"]]
    assert told == [
        {"offset": offset, "length": length, "type": "zero" if flags else "data"} for offset, length, flags in ROWS
    ]
    assert asked.links.pages(1) == []


async def test_a_page_says_how_it_is_written_and_is_kept_by_nobody(asked: Asked) -> None:
    (path, _) = asked.links.pages(0)

    plain, packed = await asked.get(path), await asked.get(path, **{"Accept-Encoding": "gzip, zstd"})

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "zstd"
    assert {plain.headers["cache-control"], packed.headers["cache-control"]} == {"no-store"}
    assert {plain.headers["vary"], packed.headers["vary"]} == {"Accept-Encoding"}
    assert packed.json() == plain.json()


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("zstd", True),
        ("gzip, ZSTD ;q=0.5", True),
        ("zstd;q=1", True),
        ("zstd;level=3", True),
        ("zstd;q=0", False),
        ("zstd; Q=0.000", False),
        ("zstd;q=no", False),
        ("gzip", False),
        ("*", False),
        ("", False),
        ("zstd2", False),
    ],
)
def test_zstd_is_for_those_who_take_it(accepted: str, taken: bool) -> None:
    assert takes_zstd(accepted) is taken


async def test_there_is_nothing_for_whoever_has_the_wrong_token_or_asks_too_far(asked: Asked) -> None:
    page = asked.links.pages(0)[0]
    tokens = [path.split("/")[1] for path in (page, asked.links.done)]
    wrong = [
        page.replace(tokens[0], tokens[1]),  # that of "done" reads nothing
        page.replace(tokens[0], "x"),
        page.replace("/disks/0", "/disks/2"),
        page.replace("/changed/0", "/changed/2"),
        page.replace("/disks/0", "/disks/1"),
    ]

    answers = [await asked.get(path) for path in wrong]
    said = await asked.say(asked.links.done.replace(tokens[1], tokens[0]))

    assert [answer.status_code for answer in answers] == [404] * 5
    assert said == (404, "there is nothing here")
    assert not asked.ending.over.is_set()


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"recovery_point": "other"}, "not the recovery point"),
        ({"result": "failure", "failed_disks": ["d0", "d7"]}, "1 of the failed disks"),
        ({"failed_disks": ["d0"]}, "a success has no failed disks"),
    ],
)
async def test_what_cannot_be_so_is_not_taken(asked: Asked, replaced: dict[str, object], words: str) -> None:
    status, text = await asked.say(**replaced)

    assert (status, words in text) == (409, True)
    assert not asked.ending.over.is_set()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"version": 1}', b"\xff"])
async def test_what_does_not_fit_the_schema_is_told_so(asked: Asked, body: bytes) -> None:
    status, text = await asked.post(body)

    assert (status, text.startswith("it does not fit docs/schema/export-done.json: ")) == (400, True)
    assert not asked.ending.over.is_set()


async def test_a_body_that_is_too_long_is_not_read_to_its_end(asked: Asked) -> None:
    fits = json.dumps(DONE).encode()

    status, text = await asked.post(fits + b" " * module._BODY_LIMIT)

    assert (status, "it has more than 262144 bytes" in text) == (400, True)
    assert await asked.post(fits + b" " * (module._BODY_LIMIT - len(fits))) == (200, "success")


async def test_a_body_that_breaks_off_is_told_so(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(request: object) -> AsyncIterator[bytes]:
        raise TimeoutError
        yield b""

    monkeypatch.setattr("starlette.requests.Request.stream", never)

    assert await asked.say() == (408, "the rest of it did not come")


async def test_success_is_recorded_once_and_answered_again(asked: Asked) -> None:
    assert await asked.say() == (200, "success")
    assert await asked.say() == (200, "success")
    assert await asked.say(result="failure") == (409, "it is over already, and ended otherwise")
    assert asked.keep.times == 1


async def test_success_that_cannot_be_recorded_is_no_success() -> None:
    with asking(Recorded(TargetError("no room"))) as asked:
        status, text = await asked.say()

    assert (status, "could not be kept: no room" in text) == (500, True)


@pytest.mark.parametrize("number", ["9" * 5000, "-1", "1e3", "%D9%A1", ""])
async def test_a_number_that_is_none_leads_nowhere(asked: Asked, number: str) -> None:
    token = asked.links.pages(0)[0].split("/")[1]

    disk = await asked.get(f"/{token}/disks/{number}/changed/0")
    page = await asked.get(f"/{token}/disks/0/changed/{number}")

    assert (disk.status_code, page.status_code) == (404, 404)
