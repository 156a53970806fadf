"""The smoke suite, run for real: everything takes part, everything is checked, and the picture is a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ntxengine.bench.suite import load_suite
from tests.cli.ntx import Ran, ntx

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def ran(out: Path, work: Path) -> Ran:
    # On one processor that others have, too, it took longer than the two minutes of other commands.
    return ntx("bench", "smoke", "--rounds", "1", "--out", out, "--work-dir", work, "--json", timeout_s=280)


def contestants(ran: Ran) -> list[tuple[str, dict[str, Any]]]:
    """Return (case, contestant) of all that could be run: a loop device needs root."""
    cases = [case for case in ran.json["cases"] if os.geteuid() == 0 or case["name"] != "block-null"]
    return [(case["name"], contestant) for case in cases for contestant in case["contestants"]]


def test_everybody_takes_part_in_every_case(ran: Ran) -> None:
    assert ran.code == 0, ran.err
    suite = load_suite("smoke")

    assert [case["name"] for case in ran.json["cases"]] == [case.name for case in suite.cases]
    for case, each in contestants(ran):
        assert (each["absent"], each["failed"]) == (None, None), (case, each)
        assert len(each["samples"]) == 1, (case, each)


def test_every_sample_has_its_figures(ran: Ran) -> None:
    for case, each in contestants(ran):
        sample = each["samples"][0]

        assert sample["bytes"] > 0, case
        assert sample["seconds"] > 0, case
        assert sample["client_cpu_seconds"] > 0, case
        assert sample["peak_memory"] > 1_000_000, case
        has_server = not (case == "verify" and each["name"] == "qemu-img")
        assert (sample["server_cpu_seconds"] is not None) == has_server, (case, each["name"])


def test_what_was_timed_was_checked(ran: Ran) -> None:
    for case, each in contestants(ran):
        keeps = case in ("dense-tcp", "two-disks", "chain-memory")

        assert ("target compared with the source (warm-up)" in each["checked"]) == keeps, (case, each["name"])
        assert ("digest equal to the reference" in each["checked"]) == (each["name"] in ("engine", "ntx"))


def test_result_says_what_it_ran_on_and_with(ran: Ran, out: Path) -> None:
    result = json.loads((out / "smoke.json").read_text())

    assert result == ran.json
    assert result["schema_version"] == 1
    assert result["command"][:3] == ["ntx", "bench", "smoke"]
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["memory"] > 0
    for name in ("ntx", "python", "nbdcopy", "nbdkit", "qemu-img"):
        assert result["versions"][name], name


def test_picture_is_a_picture(ran: Ran, out: Path) -> None:
    from matplotlib import image

    pixels = image.imread(out / "smoke.png")
    drawing = ElementTree.parse(out / "smoke.svg").getroot()

    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.01, "one colour only"
    words = " ".join("".join(text.itertext()) for text in drawing.iter("{http://www.w3.org/2000/svg}text"))
    for case in ran.json["cases"]:
        assert case["name"] in words


def test_picture_can_be_drawn_again(ran: Ran, out: Path, tmp_path: Path) -> None:
    assert ran.code == 0

    again = ntx("bench", "--plot", out / "smoke.json", "--out", tmp_path / "again")

    assert again.code == 0, again.err
    assert (tmp_path / "again" / "smoke.png").stat().st_size == pytest.approx(
        (out / "smoke.png").stat().st_size, rel=0.01
    )


def test_nothing_is_left_in_the_work_directory(ran: Ran, work: Path) -> None:
    assert ran.code == 0

    assert list(work.iterdir()) == []
