"""The proofs: tools that are not ours, on the files that a person would be left with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ntxengine.demo.shell import Shell
from ntxengine.errors import NtxError, ToolError


@dataclass(frozen=True)
class Proof:
    """One statement, who says so, and whether it is true ("" or why not)."""

    tool: str
    statement: str
    failure: str = ""


class Prover:
    """Tries proofs and says what came of them; one that fails does not keep the others from being tried."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.proofs: list[Proof] = []

    def image_is_sound(self, image: Path, name: str) -> None:
        """`qemu-img check` finds no error and no leak in a QCOW2 of the repository."""
        self._prove("qemu-img check", f"{name}: the QCOW2 is sound", "qemu-img", "check", "-q", str(image))

    def image_holds(self, image: Path, frozen: Path, name: str) -> None:
        """`qemu-img compare` reads the frozen bytes through the QCOW2 and everything below it."""
        command = ("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", str(frozen), str(image))
        self._prove("qemu-img compare", f"{name}: the QCOW2 reads as the disk when it was frozen", *command)

    def file_equals(self, restored: Path, frozen: Path, name: str) -> None:
        """`cmp` finds the restored image equal to the frozen disk, byte for byte and in length."""
        self._prove("cmp", f"{name}: restored, it is the frozen disk byte for byte", "cmp", str(frozen), str(restored))

    def file_system_is_clean(self, restored: Path, name: str) -> None:
        """`e2fsck` finds nothing to repair in the restored file system."""
        self._prove("e2fsck -fn", f"{name}: the restored file system is clean", "e2fsck", "-fn", str(restored))

    def files_differ(self, one: Path, other: Path, name: str) -> None:
        """The counter-proof: the two points are not the same, so that the comparisons above mean something."""
        code = self._shell.code("cmp", "-s", str(one), str(other))
        failure = "" if code == 1 else f"cmp ended with {code}, expected 1"
        self.add(Proof("cmp", f"{name}: the two points differ", failure))

    def check(self) -> None:
        """Raise NtxError if a proof failed."""
        failed = [proof for proof in self.proofs if proof.failure]
        if failed:
            first = failed[0]
            raise NtxError(
                f"{len(failed)} of {len(self.proofs)} proofs failed; the first: {first.tool}: {first.statement}: "
                f"{first.failure}"
            )

    def _prove(self, tool: str, statement: str, *command: str) -> None:
        failure = ""
        try:
            self._shell.quietly(*command)
        except ToolError as exc:
            failure = str(exc)
        self.add(Proof(tool, statement, failure))

    def add(self, proof: Proof) -> None:
        """Take a proof that was tried, and say what came of it."""
        self.proofs.append(proof)
        self._shell.say(f"  {'FAILED' if proof.failure else 'ok':<6}  {proof.tool:<16}  {proof.statement}")
