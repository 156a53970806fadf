"""What the Tab key offers, and that it is silent and harmless."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.cli.ntx import Ran, ntx
from tests.support.servers import require

STRANGE, TWIN, OTHER_TWIN = (f"00000000-0000-4000-8000-00000000000{number}" for number in range(3))


def complete(line: str, env: dict[str, str] | None = None) -> Ran:
    typed = {"_NTX_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return ntx(env={**typed, **(env or {})})


def offered(ran: Ran) -> list[str]:
    assert ran.code == 0
    assert ran.err == ""
    return [line.partition(",")[2] for line in ran.out.splitlines() if line]


@pytest.fixture(scope="module")
def repository(cluster: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("qemu-nbd", "qemu-img", "setpriv")
    path = tmp_path_factory.mktemp("completion") / "repository"
    ran = ntx("capture", "--all", "--to", path, env=cluster.env)
    assert ran.code == 0, ran.err
    return path


@pytest.mark.parametrize("command", ["capture", "points"])
def test_vms_of_the_repository_by_name_or_by_uuid_where_a_name_does_not_do(command: str, repository: Path) -> None:
    found = offered(complete(f"ntx {command} ", {"NTX_REPOSITORY": str(repository)}))

    assert sorted(found) == sorted(["demo", STRANGE, TWIN, OTHER_TWIN])


@pytest.mark.parametrize("command", ["verify", "restore"])
def test_points_of_the_repository(command: str, repository: Path) -> None:
    points = [point.id for point in PointStore.open(repository).points()]
    option = "--from" if command == "restore" else "--repository"

    found = offered(complete(f"ntx {command} {option} {repository} {points[0]}"))

    assert points[0] in found


def test_clusters_that_points_were_captured_on(repository: Path, cluster: Simulator) -> None:
    found = complete("ntx vms --cluster ", {"NTX_REPOSITORY": str(repository)})
    others = complete("ntx vms --cluster q", {"NTX_REPOSITORY": str(repository)})

    assert offered(found) == [cluster.config.cluster_name]
    assert offered(others) == offered(complete("ntx vms --cluster ")) == []


def test_tiers_and_suites() -> None:
    tiers, suites = complete("ntx copy --tier s"), complete("ntx bench sm")

    assert offered(tiers) == ["SSD"]
    assert offered(suites) == ["smoke"]


@pytest.mark.parametrize("command", ["copy", "map", "checksum", "info"])
def test_files_where_a_source_or_a_target_is_meant(command: str) -> None:
    assert complete(f"ntx {command} di").out == "file,di\n"


@pytest.mark.parametrize("line", ["ntx capture ", "ntx verify 2", "ntx restore --from /nonexistent "])
def test_nothing_to_offer_is_silent(line: str, tmp_path: Path) -> None:
    (tmp_path / "ntx-repository.json").write_text("no JSON")

    assert offered(complete(line)) == []
    assert offered(complete(line, {"NTX_REPOSITORY": str(tmp_path), "NTX_PRISM": "https://127.0.0.1:1"})) == []
