"""Disks that boot: GRUB alone, as the demo makes them, and Debian's kernel with busybox; and what they say they read.

A disk proves its bytes, not that there is a banner: the SHA-256 of a file on it is demanded.
"""

from __future__ import annotations

import lzma
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ntxengine.demo.bootable import (
    MARKER,
    PROOF_FILE,
    BootableDisk,
    Firmware,
    GuestDisk,
    boot,
    copy_in,
    install,
    make_bootable,
    make_partition,
    proved_digest,
    run_tool,
)
from ntxengine.units import MIB
from tests.support.servers import require, skip

__all__ = ["BootableDisk", "GuestDisk", "assert_boots", "make_bootable", "make_linux"]

_KERNEL = Path(__file__).parents[2] / ".kernel"
# A module after those that it needs.
_MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"),
    *("fat", "vfat", "nls_cp437", "nls_ascii"),
)
_CONSOLE = "console=ttyS0 panic=-1 quiet"
_INIT = f"""#!/busybox sh
/busybox mkdir -p /dev /proc /mnt
/busybox mount -t devtmpfs none /dev
/busybox mount -t proc none /proc
for module in {" ".join(_MODULES)}; do /busybox insmod /$module.ko; done
tries=0
while [ ! -e /dev/vda1 ] && [ $tries -lt 50 ]; do /busybox usleep 100000; tries=$((tries + 1)); done
/busybox mount -t vfat -o ro,iocharset=ascii /dev/vda1 /mnt
echo
echo {MARKER}
/busybox sha256sum /mnt/{PROOF_FILE}
/busybox poweroff -f
"""


def make_linux(path: Path, firmware: Firmware, proof: bytes) -> BootableDisk:
    """Make a raw disk of 64 MiB that boots Debian's kernel and busybox: by syslinux, or by GRUB where it is UEFI."""
    require("cpio", "busybox", "syslinux")
    if not (_KERNEL / "vmlinuz").exists():
        skip("no kernel of Debian was fetched (scripts/fetch-kernel)")
    make_partition(path, firmware, 64 * MIB)
    disk = BootableDisk(path, firmware, "").write_proof(proof)
    copy_in(disk.partition, {"vmlinuz": (_KERNEL / "vmlinuz").read_bytes(), "initrd.img": _initramfs()})
    if firmware == "bios":
        config = f"DEFAULT linux\nLABEL linux\nKERNEL vmlinuz\nINITRD initrd.img\nAPPEND {_CONSOLE}\n"
        copy_in(disk.partition, {"syslinux.cfg": config.encode()})
        run_tool("syslinux", "--install", "--offset", str(MIB), path)
        with path.open("r+b") as file:
            file.write(Path("/usr/lib/syslinux/mbr/mbr.bin").read_bytes()[:440])
        return disk
    with tempfile.TemporaryDirectory(prefix="ntx-grub-") as folder:
        config_file, core = Path(folder) / "grub.cfg", Path(folder) / "core.efi"
        config_file.write_text(
            f"search --file --set=root /{PROOF_FILE}\nlinux /vmlinuz {_CONSOLE}\ninitrd /initrd.img\nboot\n"
        )
        modules = ("part_gpt", "fat", "search", "search_fs_file", "linux", "boot")
        run_tool("grub-mkimage", "-O", "x86_64-efi", "-o", core, "-p", "/none", "-c", config_file, *modules)
        install(disk, core.read_bytes())
    return disk


def _initramfs() -> bytes:
    with tempfile.TemporaryDirectory(prefix="ntx-init-") as folder:
        root = Path(folder)
        busybox = subprocess.run(["which", "busybox"], check=True, capture_output=True, text=True).stdout.strip()
        contents = {name + ".ko": (_KERNEL / f"{name}.ko").read_bytes() for name in _MODULES}
        contents |= {"busybox": Path(busybox).read_bytes(), "init": _INIT.encode()}
        for name, data in contents.items():
            (root / name).write_bytes(data)
            (root / name).chmod(0o755)
        names = "\n".join(sorted(contents)).encode()
        packed = subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=names, check=True, capture_output=True
        )
    return lzma.compress(packed.stdout, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=0)


def assert_boots(
    disk: BootableDisk, images: Sequence[GuestDisk] | GuestDisk | None = None, *, timeout_s: float = 240.0
) -> None:
    """Boot the disk, or images of it, and demand that what the machine reads there is the proof of the disk."""
    chosen = GuestDisk(disk.path) if images is None else images
    disks = (chosen,) if isinstance(chosen, GuestDisk) else tuple(chosen)
    said = boot(disks, disk.firmware, timeout_s=timeout_s)
    assert proved_digest(said) == disk.digest
