"""Sizes, rates, times and addresses as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntxengine.dataplane.location import parse
from ntxengine.dataplane.tier import Tier, tier_of
from ntxengine.errors import OptionsError
from ntxengine.units import (
    LONGEST_SPAN,
    format_rate,
    format_size,
    format_span,
    format_time,
    parse_memory_limit,
    parse_rate,
    parse_size,
    parse_span,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512", 512), ("64KiB", 65536), ("64k", 65536), ("1G", 2**30), ("1.5 MiB", 3 * 2**19), ("2TB", 2**41)],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1P", "1.0001K", "1e3", "0x10", "1 2", "9" * 5000, "9" * 400 + ".5"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_size(text)


def test_a_limit_of_memory_is_enough_to_finish_an_image() -> None:
    assert parse_memory_limit("512M") == 512 * 2**20
    with pytest.raises(OptionsError, match=r"memory limit '8M': give copies 16\.0 MiB at least"):
        parse_memory_limit("8M")


def test_rates_are_bytes_per_second_and_off_means_no_limit() -> None:
    assert parse_rate("500M/s") == parse_rate("500M") == 500 * 2**20
    assert parse_rate("off") == parse_rate("0") == 0


def test_sizes_are_shown_in_the_unit_that_fits() -> None:
    assert [format_size(n) for n in (0, 1023, 1024, 1536 * 1024, 3 * 2**41, 7 * 2**60)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "6.0 TiB",
        "7.0 EiB",
    ]
    assert format_rate(2.5 * 2**30) == "2.5 GiB/s"


def test_times_are_utc() -> None:
    assert format_time(datetime.fromisoformat("2026-11-23T05:00:00+01:00")) == "2026-11-23T04:00:00Z"


def test_locations_say_what_they_mean() -> None:
    tcp = parse("nbd://backup.example:1234/disk%20one")
    unix = parse("nbd+unix:///x?socket=/run/a%20b")

    assert (tcp.kind, tcp.host, tcp.port, tcp.export) == ("nbd_tcp", "backup.example", 1234, "disk one")
    assert parse("nbd://[::1]").port == 10809
    assert (unix.kind, unix.path, unix.export) == ("nbd_unix", "/run/a b", "x")
    assert parse("./nbd:odd").kind == parse("/dev/sda").kind == parse("a:b").kind == "file"
    assert parse("pattern:1M").size == 2**20
    assert parse("null:").kind == "null"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nbd://",
        "nbd://host:99999/x",
        "nbd://user:secret@host/x",
        "nbd+unix:///x",
        "nbd+unix://host/x?socket=/s",
        "nbd+unix:///?socket=" + "x" * 108,
        "nbd+unix:///?socket=/a&tls=1",
        "http://host/x",
        "pattern:x",
        "null:1",
        "a\0b",
        "nbd://host/" + "x" * 4097,
    ],
)
def test_locations_that_mean_nothing_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse(text)

    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_every_name_that_an_api_gives_a_tier_is_known() -> None:
    assert {tier_of(name) for name in ("SSD-PCIe", "SATA_SSD", "ALL_FLASH")} == {Tier.SSD}
    assert tier_of("DAS-SATA") is Tier.HYBRID
    assert tier_of("CLOUD") is Tier.CLOUD
    assert tier_of("tape") is None


@given(st.integers(1, int(LONGEST_SPAN.total_seconds())))
def test_a_time_is_written_as_it_is_read(seconds: int) -> None:
    span = timedelta(seconds=seconds)

    assert parse_span(format_span(span)) == span


def test_a_time_for_a_person_has_no_part_that_is_nothing() -> None:
    spans = [timedelta(0), timedelta(seconds=90), timedelta(hours=36), timedelta(days=7)]

    assert [format_span(each) for each in spans] == ["0s", "1m30s", "1d12h", "7d"]
