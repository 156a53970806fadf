"""`ntx restore --to`: what a person types, and what they are told."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from ntxengine.repository.store import PointStore
from ntxengine.units import MIB
from tests.cli.ntx import COMMAND, assert_refused, environment, ntx
from tests.restore.points import OLD, SeveralDisks, device, full_of
from tests.support.pki import Pki
from tests.support.servers import qemu_nbd
from tests.tls.servers import nbdkit_tls


@pytest.fixture
def command(repository: PointStore, several: SeveralDisks) -> tuple[str, ...]:
    return "restore", several.point.id, "--from", str(repository.path)


def test_three_disks_go_to_three_kinds_of_places(command: tuple[str, ...], several: SeveralDisks, place: Path) -> None:
    served = full_of(place / "served", 8 * MIB)
    with device(place, 8 * MIB) as (path, _), qemu_nbd(served) as uri:
        to = ("--to", f"scsi.0={path}", "--to", f"SCSI.1={uri}", "--to", f"{several.ids[2]}={place / 'x.qcow2'}")
        plan = ntx(*command, *to, "-n", "--json")
        refused = ntx(*command, *to)
        assert set(served.read_bytes()) == set(OLD)
        ran = ntx(*command, *to, "--overwrite", "--verify", "--json")
        assert several.is_in(path, "scsi.0")

    assert_refused(refused, 2, "scsi.0" if "scsi.0" in refused.err else path, "is a block device", "--overwrite")
    assert plan.code == 2
    assert [disk["target_size"] for disk in plan.json["disks"]] == [8 * MIB, 8 * MIB, None]
    assert ran.code == 0, ran.err
    assert [disk["target"] for disk in ran.json["disks"]] == [path, uri, str(place / "x.qcow2")]
    assert [disk["path"] for disk in ran.json["disks"]] == [path, None, str(place / "x.qcow2")]
    assert several.is_in(served, "scsi.1")


def test_what_is_left_out_is_said(command: tuple[str, ...], place: Path) -> None:
    ran = ntx(*command, "--to", f"scsi.2={place / 'two.raw'}")

    assert ran.code == 0
    assert "not restored, as nobody asked for them: scsi.0, scsi.1" in ran.err
    assert str(place / "two.raw")[-20:] in ran.out


def test_a_dry_run_says_what_is_there_and_makes_nothing(command: tuple[str, ...], place: Path) -> None:
    (place / "old.raw").touch()
    to = ("--to", f"scsi.0={place / 'old.raw'}", "--to", f"scsi.1={place / 'new.qcow2'}")

    refused = ntx(*command, *to, "-n")
    allowed = ntx(*command, *to, "-n", "--overwrite", "--json")

    assert refused.code == 2
    assert "old.raw, exists" in refused.out
    assert "--overwrite" in refused.err
    assert [(disk["exists"], disk["format"]) for disk in allowed.json["disks"]] == [(True, "raw"), (False, "qcow2")]
    assert [path.name for path in place.iterdir()] == ["old.raw"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, ["DIRECTORY", "--to DISK=TARGET"]),
        (["--to", "/dev/sdb"], 2, ["write DISK=TARGET", "scsi.0 (d15c"]),
        (["--to", "ide.7=x"], 10, ["no disk 'ide.7'", "scsi.0"]),
        (["--to", "scsi.0="], 2, ["names nothing"]),
        (["--to", "scsi.0=a", "--to", "SCSI.0=b"], 2, ["has a target already, a"]),
        (["--to", "scsi.0=a", "--tls-ca", "ca.pem"], 2, ["--tls-ca", "nothing here is encrypted"]),
        (["--to", "scsi.0=a", "--ssh-key", "key"], 2, ["--ssh-key", "nothing here goes through ssh"]),
        (["--to", "scsi.0=nbds://127.0.0.1/x", "--overwrite"], 2, ["--tls-ca FILE"]),
        (["--to", "scsi.0=nbd://127.0.0.1:1/x", "--overwrite"], 1, ["127.0.0.1:1", "refused"]),
    ],
)
def test_what_cannot_be_is_one_line_with_its_code(
    command: tuple[str, ...], place: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    assert_refused(ntx(*command, *arguments, cwd=place), code, *words)
    assert list(place.iterdir()) == []


def test_labels_and_targets_may_hold_what_stands_between_them(repository: PointStore, place: Path) -> None:
    several = SeveralDisks(repository, labels=["vg:a=b.0", "vg:a", "x y"])
    command = ("restore", several.point.id, "--from", repository.path)

    ran = ntx(*command, "--to", f"vg:a=b.0={place / 'p=q: r'}", "--to", f"x y={place / 'second'}")
    two_ways = ntx(*command, "--to", "vg:a=b.0=c", cwd=place)

    assert_refused(two_ways, 2, "may be 'vg:a' or 'vg:a=b.0'")
    by_id = ntx(*command, "--to", f"{several.ids[0]}={place / 'p=q: r'}", "--to", f"x y={place / 'second'}")
    assert_refused(ran, 2, "may be 'vg:a' or 'vg:a=b.0'")
    assert by_id.code == 0, by_id.err
    assert (place / "p=q: r").read_bytes() == several.data("vg:a=b.0")
    assert (place / "second").read_bytes() == several.data("x y")


def test_a_disk_goes_through_tls(command: tuple[str, ...], several: SeveralDisks, place: Path) -> None:
    pki = Pki(place / "pki")
    disk = full_of(place / "served", 8 * MIB)
    tls = ("--tls-ca", pki.ca_file, "--tls-cert", pki.certificate, "--tls-key", pki.key)

    with nbdkit_tls(pki, "file", str(disk)) as port:
        ran = ntx(*command, "--to", f"scsi.2=nbds://localhost:{port}/", "--overwrite", "--verify", *tls)

    assert ran.code == 0, ran.err
    assert several.is_in(disk, "scsi.2")


def test_what_a_killed_restore_left_is_taken_away_by_the_next_one(
    command: tuple[str, ...], several: SeveralDisks, place: Path
) -> None:
    full_of(place / "served", 8 * MIB)
    with device(place, 8 * MIB) as (path, _):
        to = ("--to", f"scsi.0={place / 'new.raw'}", "--to", f"scsi.2={path}", "--overwrite")
        process = subprocess.Popen(
            [*COMMAND, *command, *to, "--bandwidth", "1M", "--progress", "json"],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line).get("bytes_done"):
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [entry.name for entry in place.iterdir() if "new.raw" in entry.name] != ["new.raw"]

        ran = ntx(*command, *to, "--verify")

        assert ran.code == 0, ran.err
        assert several.is_in(path, "scsi.2")
    assert (place / "new.raw").read_bytes() == several.data("scsi.0")
    assert sorted(entry.name for entry in place.iterdir()) == ["behind", "new.raw", "served"]
