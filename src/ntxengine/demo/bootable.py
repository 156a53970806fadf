"""Disks that boot and prove their bytes: GRUB alone, which prints the SHA-256 of a file on its serial line, and halts.

BIOS   MBR, core.img behind it    1 MiB: a FAT file system with proof.bin
UEFI   GPT                        1 MiB: an EFI system partition with GRUB and proof.bin

Nothing is mounted.  The disk is booted by qemu without hardware acceleration, and nothing is written to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ntxengine.errors import ToolError
from ntxengine.units import MIB

Firmware = Literal["bios", "uefi"]

PROOF_FILE = "proof.bin"
MARKER = "NTX-PROOF-BOOTED"
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "sfdisk": "fdisk",
    "mformat": "mtools",
    "mcopy": "mtools",
    "grub-mkimage": "grub-common",
}

_SECTOR = 512
_START = MIB  # of the partition, and what is left free at the end for the second GPT
_CODE_BYTES = 440  # of the MBR, before its table of partitions
_GRUB = Path("/usr/lib/grub")
_OVMF = Path("/usr/share/OVMF")
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_LABELS = {"bios": "label: dos\nstart=2048, type=c, bootable\n", "uefi": "label: gpt\nstart=2048, type=uefi\n"}
_FORMATS = {"bios": "i386-pc", "uefi": "x86_64-efi"}
_MODULES = (
    *("part_msdos", "part_gpt", "fat", "search", "search_fs_file", "serial", "terminal", "echo"),
    *("hashsum", "gcry_sha256", "halt"),
)
_DIGEST = re.compile(r"\b([0-9a-f]{64})\b")
_LAST_CHARACTERS = 400

GUEST_BUSES: dict[str, tuple[str, ...]] = {
    "virtio": ("virtio-blk-pci,drive={drive}",),
    "scsi": ("virtio-scsi-pci,id=c{drive}", "scsi-hd,drive={drive},bus=c{drive}.0"),
    "pvscsi": ("pvscsi,id=c{drive}", "scsi-hd,drive={drive},bus=c{drive}.0"),
    "sata": ("ide-hd,drive={drive}",),
}
"""What a disk is connected by: the devices of qemu for it."""


def check_tools() -> None:
    """Raise ToolError, naming the packages, if something is missing that these disks are made with, or booted."""
    missing = {name: package for name, package in PACKAGES.items() if shutil.which(name, path=_PATH) is None}
    for file, package in (
        (_GRUB / "i386-pc" / "boot.img", "grub-pc-bin"),
        (_GRUB / "x86_64-efi" / "moddep.lst", "grub-efi-amd64-bin"),
        (_OVMF / "OVMF_CODE_4M.fd", "ovmf"),
    ):
        if not file.exists():
            missing[str(file)] = package
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise ToolError(f"{', '.join(missing)}: missing: apt-get install --no-install-recommends {packages}")


def run_tool(*command: str | Path, stdin: str = "") -> None:
    """Run a program that makes a part of a disk.  Errors: ToolError with what it said."""
    environment = {**os.environ, "PATH": _PATH, "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(
        [str(word) for word in command], input=stdin, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ToolError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()}")


@dataclass(frozen=True)
class BootableDisk:
    """A raw disk at `path`; `digest` is the SHA-256 of its proof, in hexadecimal."""

    path: Path
    firmware: Firmware
    digest: str

    @property
    def partition(self) -> str:
        """Its file system, as mtools call it."""
        return f"{self.path}@@{_START}"

    def write_proof(self, data: bytes) -> BootableDisk:
        """Give the proof other bytes, as a guest would write them; return the disk as it is then."""
        copy_in(self.partition, {PROOF_FILE: data})
        return BootableDisk(self.path, self.firmware, hashlib.sha256(data).hexdigest())


def make_bootable(path: Path, firmware: Firmware, proof: bytes, size: int = 16 * MIB) -> BootableDisk:
    """Make a raw disk of `size` bytes that boots GRUB alone.  Errors: ToolError."""
    make_partition(path, firmware, size)
    disk = BootableDisk(path, firmware, "").write_proof(proof)
    with tempfile.TemporaryDirectory(prefix="ntx-grub-") as folder:
        config, core = Path(folder) / "grub.cfg", Path(folder) / "core.img"
        config.write_text(
            f"serial --unit=0 --speed=115200\nterminal_output serial\nsearch --file --set=root /{PROOF_FILE}\n"
            f"echo {MARKER}\nsha256sum ($root)/{PROOF_FILE}\nhalt\n"
        )
        own = ("biosdisk",) if firmware == "bios" else ()
        modules = (*own, *_MODULES)
        run_tool("grub-mkimage", "-O", _FORMATS[firmware], "-o", core, "-p", "/none", "-c", config, *modules)
        install(disk, core.read_bytes())
    return disk


def make_partition(path: Path, firmware: Firmware, size: int) -> None:
    """Make a disk with one partition that has an empty FAT file system."""
    with path.open("wb") as file:
        file.truncate(size)
    run_tool("sfdisk", "-q", path, stdin=_LABELS[firmware])
    sectors = (size - 2 * _START) // _SECTOR
    fat32 = ("-F",) if size >= 64 * MIB else ()
    geometry = ("-h", "64", "-s", "32", "-H", str(_START // _SECTOR))
    run_tool("mformat", "-i", f"{path}@@{_START}", *fat32, "-T", str(sectors), *geometry, "::")


def install(disk: BootableDisk, core: bytes) -> None:
    """Put a GRUB that is made for its firmware on a disk."""
    if disk.firmware == "uefi":
        copy_in(disk.partition, {"EFI/BOOT/BOOTX64.EFI": core})
        return
    if len(core) > _START - _SECTOR:
        raise ToolError(f"GRUB has {len(core)} bytes, which do not go before the partition")
    with disk.path.open("r+b") as file:
        file.write((_GRUB / "i386-pc" / "boot.img").read_bytes()[:_CODE_BYTES])
        file.seek(_SECTOR)
        file.write(core)


def copy_in(partition: str, files: dict[str, bytes]) -> None:
    """Write files, by their paths, to the file system of a disk."""
    with tempfile.TemporaryDirectory(prefix="ntx-boot-") as folder:
        source = Path(folder) / "file"
        for name, data in files.items():
            parents = name.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                run_tool("mmd", "-D", "s", "-i", partition, "::" + "/".join(parents[:depth]))
            source.write_bytes(data)
            run_tool("mcopy", "-o", "-i", partition, source, f"::{name}")


# ------------------------------------------------------------------------------------------------------------ booting


@dataclass(frozen=True)
class GuestDisk:
    """A disk of the machine that is booted: `format` is how qemu calls that of the image, `bus` one of GUEST_BUSES."""

    path: Path
    format: str = "raw"
    bus: str = "virtio"


def boot(
    disks: Sequence[GuestDisk],
    firmware: Firmware = "bios",
    *,
    timeout_s: float = 120.0,
    started: Callable[[int], None] = lambda _: None,
) -> str:
    """Boot a machine from the first disk, and return what it said on its serial line until it switched itself off.

    Nothing is written to the disks.  `started` is told the process id of qemu.
    Errors: ToolError: it did not switch itself off in `timeout_s`; qemu failed.
    """
    with tempfile.TemporaryDirectory(prefix="ntx-boot-") as folder:
        command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none"]
        command += ["-serial", "stdio", "-monitor", "none", "-net", "none", "-no-reboot"]
        if firmware == "uefi":
            variables = Path(folder) / "vars.fd"
            shutil.copyfile(_OVMF / "OVMF_VARS_4M.fd", variables)
            code = _OVMF / "OVMF_CODE_4M.fd"
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
            command += ["-drive", f"if=pflash,format=raw,file={variables}"]
        for number, disk in enumerate(disks):
            drive = f"d{number}"
            file = str(disk.path).replace(",", ",,")
            command += ["-drive", f"if=none,id={drive},format={disk.format},snapshot=on,file={file}"]
            for index, device in enumerate(GUEST_BUSES[disk.bus]):
                is_disk = index == len(GUEST_BUSES[disk.bus]) - 1
                order = f",bootindex={number}" if is_disk else ""
                command += ["-device", device.format(drive=drive) + order]
        return _run_machine(command, {**os.environ, "TMPDIR": folder}, timeout_s, started)


def _run_machine(
    command: Sequence[str], environment: dict[str, str], timeout_s: float, started: Callable[[int], None]
) -> str:
    # If we are killed, the kernel ends it for us.
    tied = ("setpriv", "--pdeathsig", "KILL", "--", *command)
    with subprocess.Popen(
        tied, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        started(process.pid)
        try:
            said, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            said, errors = process.communicate()
            text = _shown(said)
            raise ToolError(f"the machine did not switch itself off in {timeout_s:.0f} s; it said: {text}") from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ToolError(f"qemu ended with {process.returncode}: {_shown(errors)}")
    return said.decode("utf-8", "replace")


def _shown(data: bytes) -> str:
    lines = data.decode("utf-8", "replace").split()
    return ascii(" ".join(lines)[-_LAST_CHARACTERS:])


def proved_digest(said: str) -> str:
    """Return the digest that a machine said it has read.  Errors: ToolError: it did not say that it booted, or none."""
    _, marker, rest = said.partition(MARKER)
    found = _DIGEST.search(rest)
    if not marker or not found:
        raise ToolError(f"the machine did not say what it is asked to: {_shown(said.encode())}")
    return found[1]
