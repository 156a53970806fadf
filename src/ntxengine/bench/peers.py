"""What each contestant runs, why it cannot, and whether what it did is right."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from ntxengine.bench import tools
from ntxengine.bench.measure import Engine, Used, run_clients
from ntxengine.bench.servers import Server
from ntxengine.bench.stage import SourceEnd
from ntxengine.bench.suite import Case, Contestant
from ntxengine.bench.wire import Report, Request
from ntxengine.errors import ChecksumMismatch, ToolError

_NTX = (sys.executable, "-m", "ntxengine.cli.main")
_SERVERS = {
    "qemu-nbd": ("qemu-nbd", "qemu-img"),
    "nbdkit-null": ("nbdkit",),
    "nbdkit-memory": ("nbdkit",),
    "openssl-null": (),
}
_NEEDED = {"tls": ("openssl",), "ssh": ("ssh", "sshd", "ssh-keygen")}
_QUIET = ("--json", "--progress", "none")


class Peer(Protocol):
    """One contestant in one case."""

    def run(self, sources: Sequence[SourceEnd], targets: Sequence[Server]) -> Used:
        """Do the case's work once.

        Errors: ToolError if it failed, ChecksumMismatch if it did something else than it should.
        """


@dataclass(frozen=True)
class EnginePeer:
    """Our data plane in a process that runs already."""

    case: Case
    engine: Engine

    def run(self, sources: Sequence[SourceEnd], targets: Sequence[Server]) -> Used:
        options: dict[str, int | bool] = dict(_ours(self.case))
        if _target_is_zero(self.case):
            options["target_is_zero"] = True
        used, digests = self.engine.run(
            Request(
                mode=self.case.mode,
                sources=tuple(str(s.image) if self.case.mode == "verify" else s.uri for s in sources),
                targets=tuple(target.uri for target in targets),
                options=options,
                **_ways_of(targets[0] if targets else None),
            )
        )
        for source, report, digest in zip(sources, used.reports, digests, strict=True):
            _check_report(source, report, digest, self.case)
        return used


@dataclass(frozen=True)
class CommandPeer:
    """A program, one process per disk."""

    case: Case
    contestant: Contestant
    limit: Path | None = None

    def run(self, sources: Sequence[SourceEnd], targets: Sequence[Server]) -> Used:
        to: Sequence[Server | None] = targets or [None] * len(sources)
        tunnels = [server.ssh for server in targets if server.ssh and self.contestant.program == "nbdcopy"]
        before = sum(tunnel.tunnel_cpu_seconds() for tunnel in tunnels)
        used = run_clients([self._command(source, target) for source, target in zip(sources, to, strict=True)])
        after = sum(tunnel.tunnel_cpu_seconds() for tunnel in tunnels)
        used = replace(used, cpu_seconds=used.cpu_seconds + after - before)
        if self.contestant.program == "ntx":
            reports = tuple(msgspec.json.decode(output, type=Report) for output in used.outputs)
            for source, report in zip(sources, reports, strict=True):
                _check_report(source, report, report.digest, self.case)
            return Used(used.seconds, used.cpu_seconds, used.peak_memory, reports=reports)
        if self.contestant.program == "limit":
            return _limit_used(used, sources[0])
        return used

    def _command(self, source: SourceEnd, target: Server | None) -> list[str]:
        if self.contestant.program == "limit":
            assert self.limit is not None
            assert target is not None
            return [str(self.limit), "sendfile", source.uri, target.place, *self.contestant.options]
        raw, image = str(source.disk.path), str(source.image)
        if target is None:
            return command_line(self.contestant, self.case, source.uri, "", raw=raw, image=image)
        uri = target.uri
        if target.certificates is not None and self.contestant.program == "nbdcopy":
            uri += f"?tls-certificates={target.certificates}"
        if target.ssh is not None and self.contestant.program == "nbdcopy":
            uri = f"nbd+unix:///?socket={target.ssh.tunnel}"
        ways = [f"--{name.replace('_', '-')}={value}" for name, value in _ways_of(target).items()]
        return command_line(self.contestant, self.case, source.uri, uri, raw=raw, image=image, ways=ways)


def _ways_of(target: Server | None) -> dict[str, str]:
    """Return what the engine has to know of the way to a target."""
    if target is not None and target.certificates is not None:
        return {"tls_ca": str(target.certificates / "ca-cert.pem")}
    if target is not None and target.ssh is not None:
        return {"ssh_key": str(target.ssh.key), "ssh_known_hosts": str(target.ssh.known_hosts)}
    return {}


def command_line(
    contestant: Contestant,
    case: Case,
    source: str,
    target: str,
    *,
    raw: str = "RAW",
    image: str = "QCOW2",
    ways: Sequence[str] = (),
) -> list[str]:
    """Return what a contestant runs for one disk."""
    program, options = contestant.program, contestant.options
    zero = ["--target-is-zero"] if _target_is_zero(case) else []
    if program == "engine":
        chosen = ", ".join(f"{name}={value}" for name, value in _ours(case).items())
        return ["ntxengine.dataplane.copy", "CopyOptions(" + chosen + ")"]
    if program == "ntx":
        ours = [f"--{name.replace('_', '-')}={value}" for name, value in _ours(case).items()]
        if case.mode == "verify":
            return [*_NTX, "checksum", source, *_QUIET, *ours, *options]
        return [*_NTX, "copy", source, target, *_QUIET, *ours, *zero, *ways, *options]
    if program == "nbdcopy":
        return ["nbdcopy", *options, *zero, source, target]
    if program == "qemu-img" and case.mode == "verify":
        return ["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw, image]
    if program == "qemu-img":
        return ["qemu-img", "convert", "-n", *options, *zero, "-f", "raw", "-O", "raw", source, target]
    return ["paths", "sendfile", source, target, *options]


def shown(contestant: Contestant, case: Case) -> list[str]:
    """Return the command for a reader: names in place of files and sockets that are gone afterwards."""
    command = command_line(contestant, case, "SOURCE", "TARGET")
    return ["ntx", *command[len(_NTX) :]] if contestant.program == "ntx" else command


def why_absent(contestant: Contestant, case: Case) -> str | None:
    """Return why a contestant cannot take part in a case on this machine, None if it can."""
    programs = [contestant.program] if contestant.program in ("nbdcopy", "qemu-img") else []
    return tools.why_missing(*programs, *_NEEDED.get(case.transport_of(contestant) or "unix", ()))


def why_impossible(case: Case) -> str | None:
    """Return why nobody can do a case on this machine, None if it can be done."""
    programs = ["setpriv"]
    if case.target is not None:
        programs += _SERVERS[case.target.server]
    if case.source.via in ("qcow2", "chain"):
        programs += ["qemu-nbd", "qemu-img"]
    if case.source.via == "loop":
        programs.append("losetup")
        if os.geteuid() != 0:
            return "a loop device needs root: run it with sudo"
    return tools.why_missing(*programs)


def check_target(name: str, sources: Sequence[SourceEnd], targets: Sequence[Server]) -> None:
    """Compare what the targets hold with what the sources are, by a program that is not ours.

    Errors: ChecksumMismatch, ToolError.
    """
    for source, target in zip(sources, targets, strict=True):
        try:
            tools.run_tool("qemu-img", "compare", "-U", "-f", source.format, "-F", "raw", str(source.image), target.uri)
        except ToolError as exc:
            raise ChecksumMismatch(f"{name}: the target does not hold what the source is: {exc}") from exc


def _ours(case: Case) -> dict[str, int]:
    given = {"connections": case.ours.connections, "request_size": case.ours.request_size}
    return {name: int(value) for name, value in given.items() if value is not None}


def _target_is_zero(case: Case) -> bool:
    return case.target is not None and case.target.is_zero


def _check_report(source: SourceEnd, report: Report, digest: str | None, case: Case) -> None:
    if digest != source.disk.digest:
        raise ChecksumMismatch(f"{source.uri}: its digest is {digest}, and should be {source.disk.digest}")
    if case.mode == "copy" and report.bytes_sent != source.disk.bytes_data:
        raise ChecksumMismatch(f"{source.uri}: {report.bytes_sent} bytes were sent of {source.disk.bytes_data}")


class _LimitLine(msgspec.Struct):
    seconds: float
    cpu_seconds: float
    bytes: int


def _limit_used(used: Used, source: SourceEnd) -> Used:
    """Take the program's own times: it is a limit for the engine, which is not started for each run either."""
    line = msgspec.json.decode(used.outputs[0], type=_LimitLine)
    if line.bytes != source.disk.size:
        raise ChecksumMismatch(f"{source.uri}: {line.bytes} bytes were sent of {source.disk.size}")
    return Used(line.seconds, line.cpu_seconds, used.peak_memory)
