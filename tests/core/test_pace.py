"""What of connections and requests in flight is asked for, what is chosen, and that the report says which."""

import asyncio
import os
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, CopyReport, Pace, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.tier import Preset, Tier
from ntxengine.errors import OptionsError
from ntxengine.units import KIB, MIB
from tests.support.servers import nbdkit

SIZE = 256 * MIB


async def copy_to(uri: str, options: CopyOptions, size: int = SIZE) -> CopyReport:
    async with open_source(f"pattern:{size}") as source, open_target(uri, source=source) as target:
        return await copy(source, target.device, [whole(size)], options=options, bytes_expected=size)


def test_latency_of_a_server_is_met_with_more_requests_in_flight() -> None:
    with nbdkit("--filter=delay", "null", str(SIZE), "wdelay=50ms") as uri:
        report = asyncio.run(copy_to(uri, CopyOptions(request_size=MIB // 2)))

    assert report.pace in (Pace.LATE, Pace.RAISED, Pace.TRIED)
    assert report.connections * report.in_flight > CopyOptions().begin.begin_in_flight
    assert report.connections * report.in_flight * report.request_size <= CopyOptions().max_buffer_bytes
    assert report.bottleneck == "target"
    assert report.bytes_sent == SIZE


def test_threads_that_wait_for_the_first_answer_ask_for_more(tmp_path: Path) -> None:
    log = tmp_path / "log"
    size = SIZE // 4

    # Long enough for a busy machine to send all that is to be in flight.
    with nbdkit("--filter=log", "--filter=delay", "null", str(size), "wdelay=2", f"logfile={log}") as uri:
        report = asyncio.run(copy_to(uri, CopyOptions(request_size=4 * MIB), size))

    writes = [line for line in log.read_text().splitlines() if " Write " in line or "...Write" in line]
    before_the_first_answer = next(number for number, line in enumerate(writes) if "...Write" in line)
    assert report.pace is Pace.LATE
    assert report.connections * report.in_flight * report.request_size == CopyOptions().max_buffer_bytes
    assert before_the_first_answer == report.connections * report.in_flight


def test_what_is_asked_for_stays() -> None:
    options = CopyOptions(connections=3, in_flight=2)

    with nbdkit("--filter=delay", "null", str(SIZE), "wdelay=50ms") as uri:
        report = asyncio.run(copy_to(uri, options))

    assert (report.connections, report.in_flight, report.pace) == (3, 2, Pace.PINNED)


def test_one_of_the_two_can_be_pinned() -> None:
    with nbdkit("--filter=delay", "null", str(SIZE), "wdelay=50ms") as uri:
        threads = asyncio.run(copy_to(uri, CopyOptions(connections=1)))
        requests = asyncio.run(copy_to(uri, CopyOptions(in_flight=2)))

    assert threads.connections == 1
    assert threads.in_flight > CopyOptions().begin.begin_in_flight
    assert requests.in_flight == 2
    assert requests.connections > 2


@pytest.mark.parametrize("in_flight", [1, 3, 16, 64])
def test_requests_of_a_connection_are_as_many_as_asked_for(in_flight: int) -> None:
    options = CopyOptions(in_flight=in_flight, request_size=64 * KIB)

    with nbdkit("null", str(SIZE)) as uri:
        report = asyncio.run(copy_to(uri, options))

    assert report.in_flight == in_flight
    assert report.bytes_sent == SIZE


def test_with_nothing_to_copy_the_target_is_flushed_all_the_same() -> None:
    async def copy_nothing(uri: str) -> CopyReport:
        async with open_source(f"pattern:{SIZE}") as source, open_target(uri, source=source) as target:
            return await copy(source, target.device, [], options=CopyOptions())

    with nbdkit("memory", str(SIZE)) as uri:
        reports = [asyncio.run(copy_nothing(uri)) for _ in range(20)]

    assert all(report.is_flushed for report in reports)


def test_nothing_to_begin_with_is_refused() -> None:
    with pytest.raises(OptionsError, match="0 requests in flight"):
        CopyOptions(begin_in_flight=0)


def test_a_server_without_multi_conn_gets_all_requests_on_one_connection() -> None:
    with nbdkit(
        "--filter=multi-conn", "--filter=delay", "null", str(SIZE), "wdelay=50ms", "multi-conn-mode=disable"
    ) as uri:
        report = asyncio.run(copy_to(uri, CopyOptions()))

    assert report.connections == 1
    assert report.in_flight > CopyOptions().begin.begin_in_flight


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize(("from_server", "for_each_processor"), [(False, 1), (True, 2)])
@pytest.mark.parametrize(("over_tcp", "for_each_connection"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("processors", [1, 2, 64])
def test_a_tier_says_where_to_begin(
    tier: Tier,
    from_server: bool,
    for_each_processor: int,
    over_tcp: bool,
    for_each_connection: int,
    processors: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(processors))
    begin = tier.value.begin_in_flight

    limits = CopyOptions(begin_in_flight=begin).limits(from_server=from_server, over_tcp=over_tcp)

    assert limits.first_connections == min(4, begin, for_each_processor * processors)
    assert limits.first_requests == min(begin, for_each_connection * limits.first_connections)
    assert (limits.connections, limits.in_flight, limits.depth) == (8, 64, 8)


@pytest.mark.parametrize("tier", Tier)
def test_what_was_chosen_is_not_changed_by_a_tier(tier: Tier) -> None:
    assert CopyOptions().on(tier).begin == tier.value
    assert CopyOptions(request_size=64 * KIB).on(tier).begin == Preset(tier.value.begin_in_flight, 64 * KIB)
    assert CopyOptions(begin_in_flight=3).on(tier).begin == Preset(3, tier.value.request_size)
    assert CopyOptions().on(None) == CopyOptions()
    assert CopyOptions().begin == Tier.SSD.value


def test_requests_are_as_large_as_the_target_prefers_unless_somebody_says_otherwise() -> None:
    assert CopyOptions().into(2 * MIB).begin.request_size == 2 * MIB
    assert CopyOptions().on(Tier.SSD).into(2 * MIB).begin.request_size == 2 * MIB
    assert CopyOptions().into(4096) == CopyOptions()
    assert CopyOptions().into(1024 * MIB).begin.request_size == CopyOptions().max_buffer_bytes // 8
    assert CopyOptions(max_buffer_bytes=MIB).into(2 * MIB).begin.request_size == MIB
    assert CopyOptions(request_size=64 * KIB).into(2 * MIB).begin.request_size == 64 * KIB
    assert CopyOptions().on(Tier.HYBRID).into(2 * MIB).begin.request_size == 512 * KIB


@pytest.mark.parametrize("over_tcp", [False, True])
def test_what_is_pinned_is_where_a_copy_begins(over_tcp: bool) -> None:
    limits = CopyOptions(connections=3, in_flight=4).limits(from_server=True, over_tcp=over_tcp)

    assert (limits.connections, limits.first_connections) == (3, 3)
    assert (limits.in_flight, limits.depth, limits.first_requests) == (4, 4, 12)


async def test_a_copy_from_a_server_begins_with_more_connections_than_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(1))
    used = {}
    with nbdkit("pattern", str(SIZE)) as uri:
        for source_uri in (uri, f"pattern:{SIZE}"):
            async with open_source(source_uri) as source, open_target("null:", source=source) as target:
                options = CopyOptions(bandwidth=SIZE * 20)
                report = await copy(source, target.device, [whole(SIZE)], options=options, bytes_expected=SIZE)
                used[source.kind] = report.connections

    assert used["nbd"] == 2
    assert used["pattern"] == 1
