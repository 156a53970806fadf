"""A replica: four cycles, a test cutover, and the machine boots from it and says what it reads."""

from __future__ import annotations

import json
import random
import re
import shlex
from typing import Any

from ntxengine.demo.bootable import BootableDisk, GuestDisk, boot, check_tools, make_bootable, proved_digest
from ntxengine.demo.cluster import NTX, Cluster
from ntxengine.demo.proof import Proof, Prover
from ntxengine.demo.workplace import Workplace
from ntxengine.units import MIB, format_size

VM = "erp01"
SYSTEM_SIZE = 16 * MIB
DATA_SIZE = 96 * MIB
FILLED = 48 * MIB
PROOF_SIZE = 300_000
WRITES = 40

_CLUSTER = """\
cluster_name: demo-cluster
vms:
  - name: {vm}
    guest_tools: {{installed: true, enabled: true, reachable: true, can_quiesce: true}}
    disks:
      - {{path: {system}}}
      - {{path: {data}}}
"""
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|c)")


class ReplicateDemo:
    """The workflow in a workplace."""

    def __init__(self, at: Workplace) -> None:
        self._at = at
        self._random = random.Random(20261130)
        self._to = f"kvm:{at.name / 'kvm'}"
        self._data = at.folder / "disks" / "data.raw"
        self._system: BootableDisk
        self._zeroed = 0

    def run(self) -> None:
        """Run all of it.  Errors: ToolError, OptionsError; NtxError if a proof failed."""
        at = self._at
        check_tools()
        at.begin()
        at.title("A guest that boots: all it does is to print the SHA-256 of a file on its disk")
        self._make()
        config = _CLUSTER.format(vm=VM, system=self._system.path, data=self._data)
        with Cluster(at.beside, at.name / "cluster", config) as cluster:
            at.shell.environment |= cluster.environment
            at.title("A cluster to run it on (simulated), and a folder of a KVM host")
            at.say("")
            at.say(f"$ {shlex.join(['ntx', *cluster.command])} &")
            at.say(f"$ . {cluster.connect}; mkdir {at.name / 'kvm'}")
            (at.folder / "kvm").mkdir()
            self._follow()
            said = self._test_cutover()
            at.title("The guest works on, and the replica follows: the fourth cycle")
            self._write()
            self._cycle()
            prover = self._prove(said)
            at.ntx("sweep", str(at.name / "kvm" / ".ntx-replicas"), "--dry-run")
        at.end(f"{len(prover.proofs)} proofs, none failed")

    def _make(self) -> None:
        self._data.parent.mkdir()
        proof = self._random.randbytes(PROOF_SIZE)
        self._system = make_bootable(self._data.parent / "system.raw", "bios", proof, SYSTEM_SIZE)
        with self._data.open("wb") as file:
            file.write(self._random.randbytes(FILLED))
            file.truncate(DATA_SIZE)
        self._tell_digest()

    def _tell_digest(self) -> None:
        self._at.say(f"  {'SHA-256':<16}  {self._system.digest}")

    def _follow(self) -> None:
        at = self._at
        at.title("The first cycle: everything that is allocated")
        self._cycle()
        for number in ("second", "third"):
            at.title(f"The guest works; the {number} cycle: what changed")
            self._write()
            self._cycle()
        at.title("How far behind it is, and whether it is what was frozen")
        at.ntx("replicas", "--at", self._to)
        at.ntx("verify", "--replica", VM, "--at", self._to)

    def _cycle(self) -> None:
        self._at.ntx("replicate", VM, "--to", self._to, "--format", "qcow2", "--history", "3")

    def _write(self) -> None:
        """Let the guest write another file, and here and there on its other disk."""
        self._system = self._system.write_proof(self._random.randbytes(PROOF_SIZE))
        with self._data.open("r+b") as file:
            for _ in range(WRITES):
                file.seek(self._random.randrange(DATA_SIZE - 4096))
                file.write(self._random.randbytes(4096))
            file.seek(self._zeroed)
            file.write(bytes(MIB))
        self._zeroed += MIB
        self._at.say(f"  {'written':<16}  {WRITES} times 4 KiB, {format_size(MIB)} of zeros, another file")
        self._tell_digest()

    def _test_cutover(self) -> tuple[str, str]:
        """Boot an isolated copy; return the digest that the machine says, and what it should be."""
        at, expected = self._at, self._system.digest
        at.title("A test cutover: an isolated copy of the third generation, without a network")
        at.ntx("cutover", VM, "--to", f"{self._to}", "--format", "qcow2", "--test")
        (copy,) = (at.folder / "kvm").glob("*-test-1")
        disks = [GuestDisk(file, "qcow2", "scsi") for file in sorted(copy.glob("scsi.*.qcow2"))]
        at.title("The machine boots from it, in qemu without acceleration")
        at.say("")
        at.say(f"$ cd {shlex.quote(str(copy.relative_to(at.beside)))}")
        drives = " ".join(f"-drive file={shlex.quote(disk.path.name)}" for disk in disks)
        at.say(f"$ qemu-system-x86_64 -accel tcg -net none -serial stdio -snapshot {drives}")
        said = boot(disks)
        for line in lines_of(said):
            at.say(f"  | {line}")
        return proved_digest(said), expected

    def _prove(self, said: tuple[str, str]) -> Prover:
        at = self._at
        at.title("Proofs, by tools that are not ours")
        at.say("")
        prover = Prover(at.shell)
        found, expected = said
        failure = "" if found == expected else f"it says {found}, and {expected} was written"
        prover.add(Proof("GRUB in qemu", "the machine reads the file that the guest had written last", failure))
        replica = self._replica()
        disks = {"scsi.0": self._system.path, "scsi.1": self._data}
        folder = at.folder / "kvm" / replica["name"]
        for disk in replica["disks"]:
            name, image = f"generation {replica['generation']} {disk['label']}", folder / disk["file"]
            prover.image_is_sound(image, name)
            prover.image_holds(image, disks[disk["label"]], name)
        prover.check()
        return prover

    def _replica(self) -> dict[str, Any]:
        answer = json.loads(self._at.shell.quietly(*NTX, "replicas", "--at", self._to, "--json"))
        (found,) = answer["replicas"]
        replica: dict[str, Any] = found["replica"]
        return replica


def lines_of(said: str) -> list[str]:
    """Return what a machine said on its serial line, as lines that a person reads."""
    plain = _ESCAPE.sub("", said)
    lines = ("".join(filter(str.isprintable, line)).strip() for line in re.split(r"[\r\n]+", plain))
    return [line for line in lines if line]
