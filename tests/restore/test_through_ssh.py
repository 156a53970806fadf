"""A disk of a point goes through a real sshd to an NBD server: whole, again after a lost connection, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ntxengine.dataplane import checkpoints
from ntxengine.dataplane.security import ConnectionOptions
from ntxengine.errors import OptionsError, TargetError
from ntxengine.events import Event, Progressed, Stage
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import RestoreOptions, restore
from ntxengine.units import MIB
from tests.cli.ntx import assert_refused, ntx
from tests.restore.points import OLD, SeveralDisks, full_of
from tests.support.servers import nbdkit, qemu_nbd
from tests.support.ssh import Sshd, make_key, ssh_processes, sshd_left_clean


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    with sshd_left_clean(tmp_path, monkeypatch) as server:
        yield server


def through(server: Sshd, uri: str) -> str:
    """Return where a server that listens at a socket is behind sshd."""
    return server.uri(uri.partition("?")[2])


def options_of(server: Sshd, *, processes: int = 2) -> RestoreOptions:
    return RestoreOptions(overwrite=True, connection=ConnectionOptions(ssh=server.options(processes=processes)))


def typed(server: Sshd) -> tuple[str, ...]:
    return "--ssh-key", str(server.key), "--ssh-known-hosts", str(server.known_hosts)


def test_a_disk_goes_through_ssh_and_is_read_back(
    repository: PointStore, several: SeveralDisks, server: Sshd, place: Path
) -> None:
    served = full_of(place / "served", 8 * MIB)
    command = ("restore", several.point.id, "--from", str(repository.path))
    with qemu_nbd(served) as uri:
        target = through(server, uri)
        to = ("--to", f"scsi.0={target}", "--to", f"scsi.1={place / 'one.raw'}")

        kept = ntx(*command, *to, *typed(server))
        before = served.read_bytes()
        ran = ntx(
            *command, *to, *typed(server), "--overwrite", "--verify", "--json", env={"TMPDIR": str(server.folder / "t")}
        )

    assert_refused(kept, 2, "is an NBD server", "--overwrite")
    assert set(before) == set(OLD)
    assert ran.code == 0, ran.err
    assert [disk["target"] for disk in ran.json["disks"]] == [target, str(place / "one.raw")]
    assert served.read_bytes() == several.data("scsi.0") + OLD * (8 * MIB - several.sizes["scsi.0"])
    assert several.is_in(place / "one.raw", "scsi.1")
    assert sorted(path.name for path in place.iterdir()) == ["one.raw", "served"]


async def test_in_place_only_what_differs_goes_through_ssh(
    repository: PointStore, several: SeveralDisks, server: Sshd, place: Path
) -> None:
    served = place / "served"
    data = bytearray(several.data("scsi.1"))
    data[MIB : MIB + 512] = OLD * 512
    served.write_bytes(data)
    with nbdkit("file", str(served)) as uri:
        options = replace(options_of(server), in_place=True, verify=True)
        targets = {"scsi.1": through(server, uri)}

        report = await restore(Repository(repository), several.point, targets=targets, options=options)

    assert served.read_bytes() == several.data("scsi.1")
    assert report.disks[0].bytes_written == 64 * 1024
    assert report.disks[0].is_verified


@pytest.mark.parametrize("in_place", [False, True])
async def test_a_restore_goes_on_after_sshd_and_all_its_connections_were_killed(
    repository: PointStore,
    several: SeveralDisks,
    server: Sshd,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_place: bool,
) -> None:
    monkeypatch.setattr(checkpoints, "DUE_S", 0.1)
    monkeypatch.setattr(checkpoints, "_SELDOMER", 0)
    served = full_of(place / "served", 8 * MIB)
    killed: list[Event] = []

    def kill(event: Event) -> None:
        if isinstance(event, Progressed) and event.stage is Stage.RESTORE and event.bytes_done and not killed:
            killed.append(event)
            server.kill()
            asyncio.get_running_loop().call_later(0.5, server.start)

    with qemu_nbd(served, shared=0) as uri:
        options = replace(options_of(server), in_place=in_place, verify=True, retry_for_s=60, bandwidth=2 * MIB)
        targets = {"scsi.2": through(server, uri)}

        report = await restore(Repository(repository), several.point, targets=targets, options=options, on_event=kill)

    assert killed
    assert report.disks[0].is_verified
    assert several.is_in(served, "scsi.2")


async def test_where_sshd_stays_away_it_is_said_and_the_next_restore_writes_all(
    repository: PointStore, several: SeveralDisks, server: Sshd, place: Path
) -> None:
    served = full_of(place / "served", 8 * MIB)

    def kill(event: Event) -> None:
        if isinstance(event, Progressed) and event.stage is Stage.RESTORE and event.bytes_done:
            server.kill()

    with qemu_nbd(served, shared=0) as uri:
        options = replace(options_of(server), retry_for_s=0, bandwidth=2 * MIB)
        targets = {"scsi.2": through(server, uri)}

        with pytest.raises(TargetError, match=r"^nbd\+ssh://.*: restore it again$") as raised:
            await restore(Repository(repository), several.point, targets=targets, options=options, on_event=kill)
        server.start()
        await restore(Repository(repository), several.point, targets=targets, options=options)

    assert "\n" not in str(raised.value)
    assert several.is_in(served, "scsi.2")


def test_a_login_that_is_refused_is_one_line_and_nothing_is_written(
    repository: PointStore, several: SeveralDisks, server: Sshd, place: Path
) -> None:
    make_key(place / "another key")
    served = full_of(place / "served", 8 * MIB)
    with nbdkit("file", str(served)) as uri:
        to = ("--to", f"scsi.0={through(server, uri)}", "--to", f"scsi.1={place / 'one.raw'}", "--overwrite")
        ssh = ("--ssh-key", str(place / "another key"), "--ssh-known-hosts", str(server.known_hosts))

        ran = ntx("restore", several.point.id, "--from", str(repository.path), *to, *ssh)

    assert_refused(ran, 1, "Permission denied")
    assert set(served.read_bytes()) == set(OLD)
    assert not (place / "one.raw").exists()


async def test_two_disks_do_not_go_to_one_export_behind_ssh(
    repository: PointStore, several: SeveralDisks, server: Sshd, place: Path
) -> None:
    served = full_of(place / "served", 8 * MIB)
    with nbdkit("file", str(served)) as uri:
        targets = {"scsi.0": through(server, uri), "scsi.1": through(server, uri)}

        with pytest.raises(OptionsError, match="are one target"):
            await restore(Repository(repository), several.point, targets=targets, options=options_of(server))

    assert ssh_processes(server.folder) == []
    assert set(served.read_bytes()) == set(OLD)
