"""No request is sent faster than Prism allows, however it counts, and none waits longer than that needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import httpx
import pytest

from ntxengine.errors import PrismBusy
from ntxengine.prism.http.limiter import LONGEST_PAUSE_S, LONGEST_WAIT_S, Limiter, api_of
from ntxengine.prism.http.session import Request, Session, tls_context
from tests.prism.hostile import HandClock
from tests.prism.steps import until

ID = "11111111-2222-4333-8444-555555555555"
LIST = Request("GET", "/api/vmm/v4.1/ahv/config/vms")


def told(limit: int, *, period_s: int = 1, remaining: int = 1, reset: int = 0) -> dict[str, str]:
    return {
        "x-api-ratelimit-limit": str(limit),
        "x-api-ratelimit-remaining": str(remaining),
        "x-api-ratelimit-refresh-period-seconds": str(period_s),
        "x-api-ratelimit-reset": str(reset),
    }


@pytest.mark.parametrize(
    ("method", "path", "api"),
    [
        ("GET", f"/api/vmm/v4.1/ahv/config/vms/{ID}/disks/{ID}", "GET /api/vmm/v4.1/ahv/config/vms/{}/disks/{}"),
        ("GET", f"/api/prism/v4.0/config/tasks/ZXJnb24%3D%3A{ID}", "GET /api/prism/v4.0/config/tasks/{}"),
        ("POST", "/api/nutanix/v3/vms/list", "POST /api/nutanix/v3/vms/list"),
    ],
)
def test_a_call_is_its_path_without_ids(method: str, path: str, api: str) -> None:
    assert api_of(method, path) == api


class Server:
    """Counts in one of the ways that a server may, and refuses what is too fast."""

    def __init__(self, clock: HandClock, limit: int, count: Callable[[float, list[float]], int]) -> None:
        self.clock, self.limit, self.count = clock, limit, count
        self.arrived: list[float] = []
        self.refused = 0

    async def __call__(self, _request: httpx.Request) -> httpx.Response:
        now = self.clock.time_s
        self.arrived.append(now)
        remaining = self.limit - self.count(now, self.arrived)
        await self.clock.sleep(0.05)
        self.refused += remaining < 0
        headers = told(self.limit, remaining=max(remaining, 0), reset=1000 - int(now % 1 * 1000))
        return httpx.Response(429 if remaining < 0 else 200, json={}, headers=headers)


def in_this_second(now: float, arrived: list[float]) -> int:
    return sum(int(when) == int(now) for when in arrived)


def in_the_last_second(now: float, arrived: list[float]) -> int:
    return sum(now - 1 < when for when in arrived)


@pytest.mark.parametrize("count", [in_this_second, in_the_last_second])
@pytest.mark.parametrize("at_once", [1, 8])
async def test_fifty_pages_at_two_a_second_meet_no_refusal(
    clock: HandClock, ca_file: str, count: Callable[[float, list[float]], int], at_once: int
) -> None:
    clock.time_s += 0.4
    server = Server(clock, 2, count)
    tls = tls_context(ca_file, insecure=False)
    transport = httpx.MockTransport(server)
    session = Session("pc", 9440, tls, account=None, timeout_s=30, clock=clock.clock, transport=transport)
    left = list(range(50))

    async def ask() -> None:
        while left:
            left.pop()
            await session.ask(LIST)

    await asyncio.gather(*(ask() for _ in range(at_once)))
    await session.aclose()

    assert (len(server.arrived), server.refused) == (50, 0)
    if at_once == 1:  # the clock adds up what several sleep at once
        assert server.arrived[-1] - server.arrived[0] < 30


async def test_the_first_request_of_a_call_goes_alone(clock: HandClock) -> None:
    limiter, answered = Limiter(clock.clock), asyncio.Event()
    begun: list[int] = []

    async def ask(number: int) -> None:
        async with limiter.turn("a"):
            begun.append(number)
            await answered.wait()
            limiter.learn("a", 200, {})

    tasks = [asyncio.create_task(ask(number)) for number in range(4)]
    await asyncio.sleep(0.01)
    before = list(begun)
    answered.set()
    await asyncio.gather(*tasks)

    assert (before, begun) == ([0], [0, 1, 2, 3])


async def test_a_first_request_that_breaks_lets_the_next_one_go(clock: HandClock) -> None:
    limiter = Limiter(clock.clock)

    with pytest.raises(OSError, match="cut"):
        async with limiter.turn("a"):
            raise OSError("cut")
    async with limiter.turn("a"):
        pass

    assert clock.slept == []


async def test_a_first_request_that_hangs_lets_the_others_go_together(clock: HandClock) -> None:
    limiter, begun, hang, answered = Limiter(clock.clock), [], asyncio.Event(), asyncio.Event()

    async def ask(number: int) -> None:
        async with limiter.turn("a"):
            begun.append(number)
            await (answered if number else hang).wait()
            if number == 0:
                raise TimeoutError

    tasks = [asyncio.create_task(ask(number)) for number in range(4)]
    await asyncio.sleep(0.01)
    hang.set()
    await until(lambda: len(begun) == 4)  # none of whom has an answer yet
    answered.set()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert begun == [0, 1, 2, 3]


async def test_calls_have_limits_of_their_own_and_share_that_of_the_account(clock: HandClock) -> None:
    limiter = Limiter(clock.clock)
    sent = []

    for api in ("a", "b", "a", "b"):
        async with limiter.turn(api):
            sent.append((api, clock.time_s - 1000))
            limiter.learn(api, 200, told(1) | {"x-ratelimit-limit": "3"})

    assert sent == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


async def test_what_another_program_has_used_up_is_waited_for(clock: HandClock) -> None:
    limiter = Limiter(clock.clock)

    for _ in range(2):
        async with limiter.turn("a"):
            limiter.learn("a", 200, told(10, remaining=0, reset=183))

    assert clock.slept == [pytest.approx(0.183)]


@pytest.mark.parametrize("limit", [1, 100])
async def test_a_header_that_asks_for_hours_is_told_of_and_not_obeyed(
    clock: HandClock, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    limiter = Limiter(clock.clock, "Prism pc")

    for _ in range(200):
        async with limiter.turn("a"):
            limiter.learn("a", 200, told(limit, period_s=60, remaining=0))

    assert sum(clock.slept) <= 200 * LONGEST_PAUSE_S
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "Prism pc: a: waits for its rate limit, 5 s at first"
    ]


async def test_a_turn_that_does_not_come_is_busy_in_the_end(clock: HandClock) -> None:
    limiter = Limiter(clock.clock, "Prism pc")

    async def ask() -> None:
        async with limiter.turn("a"):
            limiter.learn("a", 200, told(1, period_s=60))

    asked = await asyncio.gather(*(ask() for _ in range(200)), return_exceptions=True)

    refused = [one for one in asked if one is not None]
    assert all(isinstance(one, PrismBusy) and not one.was_sent for one in refused)
    assert {str(one) for one in refused} == {"Prism pc: a: no turn within 300 s under its rate limit; try again later"}
    assert {type(one) for one in refused} == {PrismBusy}
    assert sum(clock.slept) <= LONGEST_WAIT_S + LONGEST_PAUSE_S


async def test_a_refusal_without_a_limit_makes_it_one_a_second_for_a_while(clock: HandClock) -> None:
    limiter = Limiter(clock.clock)

    async def ask(status: int = 200) -> None:
        async with limiter.turn("a"):
            limiter.learn("a", status, {})

    await ask(429)
    await ask()
    await ask()
    in_between = list(clock.slept)
    clock.time_s += 60
    await ask()
    await ask()

    assert in_between == [1, 1]
    assert clock.slept == in_between


@pytest.mark.parametrize(
    "headers",
    [
        {},
        told(0),
        {"x-api-ratelimit-limit": "-1"},
        {"x-api-ratelimit-limit": "many", "x-api-ratelimit-remaining": "0"},
        {"x-api-ratelimit-limit": "9" * 40},
    ],
)
async def test_limits_that_cannot_be_meant_hold_nobody_up(clock: HandClock, headers: dict[str, str]) -> None:
    limiter = Limiter(clock.clock)

    for _ in range(5):
        async with limiter.turn("a"):
            limiter.learn("a", 200, headers)

    assert clock.slept == []


async def test_whoever_stops_waiting_leaves_the_line(clock: HandClock) -> None:
    limiter = Limiter(clock.clock)
    async with limiter.turn("a"):
        waiting = asyncio.create_task(limiter.turn("a").__aenter__())
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        limiter.learn("a", 200, {})

    async with limiter.turn("a"), limiter.turn("a"):
        pass

    assert waiting.cancelled()
