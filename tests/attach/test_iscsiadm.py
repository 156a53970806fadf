"""The kernel's initiator: what iscsiadm is told, where the secret goes, and which device is taken.

This machine may have neither iscsiadm nor the kernel's modules: a program that writes down what it is told, and makes
the record that the real one makes, is in its place.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from ntxengine.attach.initiator import Waiting
from ntxengine.attach.iscsiadm import Kernel
from ntxengine.errors import AttachError, ToolError
from ntxengine.images.served import IscsiLun

TARGET = "iqn.2010-06.com.nutanix:ntx-vg"
LUN = IscsiLun("10.0.0.5:3260", TARGET, 0, initiator="iqn.2026-11.org.ntxengine:a", secret="Secret123456")
NODE = f"-m node -T {TARGET} -p 10.0.0.5:3260 -I ntx-INTERFACE"
INTERFACE = "-m iface -I ntx-INTERFACE"

# It makes a record as iscsiadm 2.1.8 does, and plugs the device in at the login.
ISCSIADM = """#!/bin/sh
echo "$*" >> "$LAB/told"
case "$*" in
    *"$FAILS_AT"*) echo "iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)" >&2
        exit 24 ;;
    "-m node"*"-o new")
        mkdir -p "$LAB/nodes/$4/10.0.0.5,3260,1"
        printf '# BEGIN RECORD 2.1.8\\nnode.name = %s\\niface.iscsi_ifacename = %s\\n# END RECORD\\n' "$4" "$8" \\
            > "$LAB/nodes/$4/10.0.0.5,3260,1/$8" ;;
    *--login) cp -r "$LAB/nodes" "$LAB/seen"; [ -e "$LAB/no-device" ] || mv "$LAB/unplugged" "$LAB/by-path" ;;
    *--logout) [ -e "$LAB/by-path" ] || { echo "iscsiadm: No matching sessions found" >&2; exit 21; }
        mv "$LAB/by-path" "$LAB/unplugged" ;;
    *"-o delete") [ "$2" = iface ] || rm -r "$LAB/nodes/$4" ;;
esac
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "iscsiadm"
    program.parent.mkdir()
    program.write_text(ISCSIADM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LAB", str(tmp_path))
    monkeypatch.setenv("FAILS_AT", "nothing")
    disk = tmp_path / "disk"
    disk.write_bytes(b"x" * 1024)
    other = tmp_path / "other"
    other.write_bytes(b"y" * 1024)
    devices = tmp_path / "unplugged"
    devices.mkdir()
    (devices / f"ip-10.0.0.5:3260-iscsi-{TARGET}-lun-0").symlink_to(disk)
    (devices / f"ip-10.0.0.5:3260-iscsi-{TARGET}-lun-0-part1").symlink_to(other)
    (devices / f"ip-10.0.0.5:3260-iscsi-{TARGET}-lun-10").symlink_to(other)
    (devices / f"ip-10.0.0.5:3260-iscsi-{TARGET}x-lun-0").symlink_to(other)
    (tmp_path / "modules" / "iscsi_tcp").mkdir(parents=True)
    return tmp_path


def kernel(lab: Path) -> Kernel:
    waiting = Waiting(appear_s=0.2, poll_s=0.02)
    records = (lab / "none", lab / "nodes")
    return Kernel(waiting, by_path=lab / "by-path", records=records, modules=lab / "modules")


def told(lab: Path) -> list[str]:
    """Return the argument vectors, with the name of the interface, which is made of ours, left open."""
    lines = (lab / "told").read_text().splitlines()
    [interface] = {line.split(" -I ntx-")[1].split()[0] for line in lines}
    return [line.replace(f"ntx-{interface}", "ntx-INTERFACE") for line in lines]


def records(lab: Path) -> list[Path]:
    """Return the records of logins, each with its secret."""
    return [path for path in (lab / "nodes").rglob("*") if path.is_file()]


async def test_the_device_of_the_lun_is_read_and_all_is_taken_back(lab: Path) -> None:
    async with kernel(lab).open(LUN) as export:
        assert export.location.path == str(lab / "disk")
        assert export.size == 1024

    assert told(lab) == [
        f"{INTERFACE} -o new",
        f"{INTERFACE} -o update -n iface.initiatorname -v {LUN.initiator}",
        f"{NODE} -o new",
        f"{NODE} --login",
        f"{NODE} --logout",
        f"{NODE} -o delete",
        f"{INTERFACE} -o delete",
    ]


async def test_the_secret_is_in_a_file_of_root_s_alone_and_in_no_argument(lab: Path) -> None:
    async with kernel(lab).open(LUN):
        pass

    [record] = (path for path in (lab / "seen").rglob("*") if path.is_file())
    assert record.stat().st_mode & 0o077 == 0
    assert record.read_text().splitlines()[-4:] == [
        "node.session.auth.authmethod = CHAP",
        "node.session.auth.username = iqn.2026-11.org.ntxengine:a",
        "node.session.auth.password = Secret123456",
        "# END RECORD",
    ]
    assert LUN.secret not in (lab / "told").read_text()


async def test_a_login_without_a_record_to_put_the_secret_into_is_not_tried(lab: Path) -> None:
    elsewhere = Kernel(Waiting(), by_path=lab / "by-path", records=(lab / "none",), modules=lab / "modules")

    with pytest.raises(AttachError, match=f"{TARGET}.*: iscsiadm made no record of the login in {lab}/none$"):
        async with elsewhere.open(LUN):
            pass

    assert not any(line.endswith("--login") for line in told(lab))
    assert records(lab) == []


async def test_a_record_that_cannot_be_written_is_said_and_the_login_not_tried(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "write_text", refuse)

    with pytest.raises(AttachError, match=f"{TARGET}.*: the record of the login cannot be written: .*Read-only file"):
        async with kernel(lab).open(LUN):
            pass

    assert not any(line.endswith("--login") for line in told(lab))
    assert records(lab) == []


async def test_a_device_that_does_not_appear_is_said_and_the_login_taken_back(lab: Path) -> None:
    (lab / "no-device").touch()

    with pytest.raises(AttachError, match=r"no device named \.\.\.-iscsi-iqn.*-lun-0 of a size above 0 appeared"):
        async with kernel(lab).open(LUN):
            pass

    assert told(lab)[-3:] == [f"{NODE} --logout", f"{NODE} -o delete", f"{INTERFACE} -o delete"]


async def test_a_device_that_cannot_be_read_is_said_and_the_login_taken_back(lab: Path) -> None:
    (lab / "disk").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(lab / "disk"))

        with pytest.raises(AttachError, match=f"cannot read the disk in {lab}/by-path: .*No such device"):
            async with kernel(lab).open(LUN):
                pass

    assert told(lab)[-3:] == [f"{NODE} --logout", f"{NODE} -o delete", f"{INTERFACE} -o delete"]


@pytest.mark.parametrize("step", ["-o update", "--login"])
async def test_what_is_refused_before_the_login_is_said_in_the_program_s_words(
    step: str, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS_AT", step)

    with pytest.raises(ToolError, match=r"iscsi://10\.0\.0\.5:3260/.*: iscsiadm: initiator reported error .24"):
        async with kernel(lab).open(LUN):
            pass

    assert told(lab)[-3:] == [f"{NODE} --logout", f"{NODE} -o delete", f"{INTERFACE} -o delete"]
    assert records(lab) == []


async def test_a_logout_that_fails_is_said_and_the_records_go_all_the_same(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS_AT", "--logout")

    with pytest.raises(
        AttachError, match=f"the kernel is still logged in: .* `iscsiadm -m node -T {TARGET} -u` ends it"
    ):
        async with kernel(lab).open(LUN):
            assert len(records(lab)) == 1

    assert told(lab)[-3:] == [f"{NODE} --logout", f"{NODE} -o delete", f"{INTERFACE} -o delete"]
    assert records(lab) == []


async def test_what_is_missing_is_said_with_the_remedy(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await kernel(lab).missing() == (
        "" if os.geteuid() == 0 else "the kernel's iSCSI initiator is for root alone"
    )

    (lab / "modules" / "iscsi_tcp").rmdir()
    assert await kernel(lab).missing() == "the kernel has no iSCSI initiator: modprobe iscsi_tcp"

    monkeypatch.setenv("PATH", str(lab))
    assert await kernel(lab).missing() == "iscsiadm is not installed: install the package open-iscsi"
