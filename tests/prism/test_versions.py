"""Versions of AOS, as clusters write them."""

from __future__ import annotations

import pytest

from ntxengine.prism.versions import ERAS, AosVersion, era_of, notice, read_version, refusal

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("full", "short", "numbers"),
    [
        (f"el7.3-release-fraser-6.5.4.5-stable-{SHA}", "6.5.4.5", (6, 5, 4, 5)),
        (f"el8.5-release-ganges-7.0.1-stable-{SHA}", "7.0", (7, 0, 1)),
        ("fraser-6.8-stable", None, (6, 8)),
        (None, "fraser-6.8-stable", (6, 8)),
        ("el7.3-release-euphrates-5.20.1.1-stable", "5.20.1.1", (5, 20, 1, 1)),
        ("", "7.5.1.2", (7, 5, 1, 2)),
        ("master", "7.0", (7, 0)),
        (f"el8.5-release-master-{SHA}", None, ()),
        ("el8.5-release-ce-2020.09.16-stable", "2020.09.16", ()),
        ("pc.2024.3.1", "pc.2024.3", ()),
        ("", "", ()),
        (None, None, ()),
        ("9" * 5000 + "." + "9" * 5000, None, ()),
    ],
)
def test_the_number_is_found_where_there_is_one(full: str | None, short: str | None, numbers: tuple[int, ...]) -> None:
    assert read_version(full, short).numbers == numbers


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ((5, 15), "before 5.20"),
        ((5, 19, 2), "before 5.20"),
        ((5, 20), "5.20"),
        ((5, 20, 5), "5.20"),
        ((6, 1), "6.0 to 6.4"),
        ((6, 4, 9), "6.0 to 6.4"),
        ((6, 5), "6.5 to 6.10"),
        ((6, 10, 1), "6.5 to 6.10"),
        ((7, 0), "7.x"),
        ((7, 6, 1), "7.x"),
    ],
)
def test_each_version_is_in_one_era(numbers: tuple[int, ...], name: str) -> None:
    era = era_of(AosVersion("", numbers))

    assert era is not None
    assert era.name == name
    assert bool(refusal(AosVersion("", numbers))) == (name == "before 5.20")


def test_what_is_not_known_is_said_and_not_refused() -> None:
    unknown = read_version("master")

    assert refusal(unknown) == ""
    assert "could not be read (master)" in notice(unknown, "v3")
    assert str(unknown) == "unknown (master)"


def test_a_refusal_has_the_table() -> None:
    text = refusal(AosVersion("", (5, 15, 7)))

    assert text.startswith("AOS 5.15.7 is older than 5.20")
    assert all(era.name in text for era in ERAS)
    assert "\n" not in text


def test_v4_on_an_old_cluster_is_said() -> None:
    assert "came with 7.0" in notice(AosVersion("", (6, 5, 2)), "v4")
    assert notice(AosVersion("", (6, 5, 2)), "v3") == ""
    assert notice(AosVersion("", (7, 3)), "v4") == ""
