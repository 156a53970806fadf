"""Running a suite: for each case a warm-up round that is checked and not counted, then rounds in rotated order."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ntxengine.bench import machine, tools
from ntxengine.bench.judge import judge, summarise
from ntxengine.bench.measure import Engine
from ntxengine.bench.peers import (
    CommandPeer,
    EnginePeer,
    Peer,
    check_target,
    shown,
    why_absent,
    why_impossible,
)
from ntxengine.bench.reference import NOT_BUILT, Built, build_drop, build_limit
from ntxengine.bench.result import SCHEMA_VERSION, BarResult, CaseResult, ContestantResult, Result, Sample
from ntxengine.bench.servers import Server, Sockets
from ntxengine.bench.stage import DiskCache, Stage, bytes_needed
from ntxengine.bench.suite import Case, Contestant, Suite, Transport
from ntxengine.errors import ChecksumMismatch, OptionsError, ToolError
from ntxengine.units import KIB, format_size

Say = Callable[[str], None]
T = TypeVar("T")

_CHECKED = {
    "engine": ("digest equal to the reference", "bytes sent"),
    "ntx": ("digest equal to the reference", "bytes sent"),
    "limit": ("bytes sent",),
}


@dataclass
class _Runner:
    """One contestant on its way through one case."""

    name: str
    contestant: Contestant
    transport: Transport | None
    peer: Peer | None
    absent: str | None = None
    failed: str | None = None
    checked: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def takes_part(self) -> bool:
        return self.peer is not None and self.failed is None


@dataclass(frozen=True)
class BenchContext:
    """What all cases share."""

    suite: Suite
    folder: Path
    sockets: Sockets
    disk_cache: DiskCache
    limit: Built
    drop: Built
    say: Say


def run_suite(suite: Suite, *, work_dir: Path | None, say: Say) -> Result:
    """Measure everything that `suite` describes.  `say` is told what is being done.

    Errors: OptionsError (no room), ToolError (a server failed), ChecksumMismatch (somebody copied something else).
    """
    place = Path(tempfile.gettempdir()) if work_dir is None else work_dir
    _check_room(suite, place)
    began = datetime.now(UTC)
    commit, dirty = machine.commit()
    described = machine.machine(place)
    with _context(suite, place, say) as context:
        cases = tuple(_run_case(case, context) for case in suite.cases)
    return Result(
        schema_version=SCHEMA_VERSION,
        suite=suite.name,
        title=suite.title,
        began=began,
        ended=datetime.now(UTC),
        command=machine.command(),
        rounds=suite.rounds,
        machine=described,
        versions=machine.versions(),
        commit=commit,
        dirty=dirty,
        cases=cases,
        memory_floor=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB,
    )


def rotated(names: Sequence[T], number: int) -> list[T]:
    """Return `names` beginning with another one in each round: nobody always runs first, or always behind the same."""
    start = number % len(names)
    return [*names[start:], *names[:start]]


def _check_room(suite: Suite, place: Path) -> None:
    try:
        free = shutil.disk_usage(place).free
    except OSError as exc:
        raise OptionsError(f"{place}: cannot work there: {exc.strerror}: give another --work-dir") from exc
    for case in suite.cases:
        needed = bytes_needed(case, suite.disks[case.source.disk])
        if needed > free:
            raise OptionsError(
                f"{place}: case {case.name} needs {format_size(needed)}, and {format_size(free)} are free: "
                "give another --work-dir, or a smaller --size"
            )


@contextmanager
def _context(suite: Suite, place: Path, say: Say) -> Iterator[BenchContext]:
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ntx-bench-", dir=place)))
            # A unix socket's path has at most 107 bytes: not below a place that a person chose.
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ntx-bench-")))
        except OSError as exc:
            raise OptionsError(f"{place}: cannot work there: {exc.strerror}: give another --work-dir") from exc
        named = {suite.contestants[name].program for case in suite.cases for name in case.who}
        limit = build_limit(folder) if "limit" in named else NOT_BUILT
        served = {case.target.server for case in suite.cases if case.target is not None}
        drop = build_drop(folder) if "openssl-null" in served else NOT_BUILT
        yield BenchContext(suite, folder, Sockets(sockets), DiskCache(folder), limit, drop, say)


# -------------------------------------------------------------------------------------------------------- a case


def _run_case(case: Case, context: BenchContext) -> CaseResult:
    disk = context.suite.disks[case.source.disk]
    impossible = why_impossible(case)
    if case.target is not None and case.target.server == "openssl-null":
        impossible = impossible or context.drop.why_not
    with ExitStack() as stack:
        runners = {name: _runner(name, case, context, stack, impossible) for name in case.who}
        if impossible is None:
            context.say(f"{case.name}: {case.title}")
            stage = stack.enter_context(
                Stage(case, disk, context.disk_cache, context.folder, context.sockets, context.drop.program)
            )
            _warm_up(stage, runners, case, context.say)
            for number in range(context.suite.rounds):
                context.say(f"{case.name}: round {number + 1} of {context.suite.rounds}")
                for name in rotated(case.who, number):
                    _count(stage, runners[name], number)
        else:
            context.say(f"{case.name}: cannot be run: {impossible}")
    contestants = tuple(_contestant_result(runner, case) for runner in runners.values())
    return CaseResult(
        name=case.name,
        title=case.title,
        bytes=disk.size * case.disks,
        absent=impossible,
        contestants=contestants,
        bars=_bars(context.suite, case, contestants),
    )


def _runner(name: str, case: Case, context: BenchContext, stack: ExitStack, impossible: str | None) -> _Runner:
    contestant = context.suite.contestants[name]
    is_limit = contestant.program == "limit"
    absent = impossible or (context.limit.why_not if is_limit else why_absent(contestant, case))
    peer: Peer | None = None
    if absent is None and contestant.program == "engine":
        peer = EnginePeer(case, stack.enter_context(Engine()))
    elif absent is None:
        peer = CommandPeer(case, contestant, context.limit.program if is_limit else None)
    return _Runner(name, contestant, case.transport_of(contestant), peer, absent)


def _warm_up(stage: Stage, runners: dict[str, _Runner], case: Case, say: Say) -> None:
    """Run everybody once, uncounted, each into a target of its own where that can be read back and compared."""
    say(f"{case.name}: warm-up, with checks")
    can_compare = stage.keeps_bytes and tools.find("qemu-img") is not None
    for runner in runners.values():
        with stage.targets(runner.transport, fresh=stage.keeps_bytes) as targets:
            if _run(stage, runner, targets) is None:
                continue
            checks = _CHECKED.get(runner.contestant.program, ("exit code",))
            runner.checked += checks[:1] if case.mode == "verify" else checks
            if can_compare:
                check_target(f"{case.name}: {runner.name}", stage.sources, targets)
                runner.checked.append("target compared with the source (warm-up)")
    # The memory of a server that stays is slow when it is touched for the first time.
    first = next((runner for runner in runners.values() if runner.takes_part), None)
    if stage.keeps_bytes and first is not None:
        with stage.targets(first.transport, fresh=False) as targets:
            _run(stage, first, targets)


def _count(stage: Stage, runner: _Runner, number: int) -> None:
    with stage.targets(runner.transport, fresh=False) as targets:
        sample = _run(stage, runner, targets, number)
    if sample is not None:
        runner.samples.append(sample)


def _run(stage: Stage, runner: _Runner, targets: Sequence[Server], number: int = 0) -> Sample | None:
    """Run a contestant once.  One that fails is out, with the reason; one that does something wrong ends everything."""
    if runner.peer is None or not runner.takes_part:
        return None
    servers = [*targets, *(source.server for source in stage.sources if source.server is not None)]
    stage.make_ready()
    before = sum(server.cpu_seconds() for server in servers)
    try:
        used = runner.peer.run(stage.sources, targets)
    except ToolError as exc:
        runner.failed = str(exc)
        return None
    except ChecksumMismatch as exc:
        raise ChecksumMismatch(f"{runner.name}: {exc}") from exc
    after = sum(server.cpu_seconds() for server in servers)
    has_servers = bool(servers) and not (runner.contestant.program == "qemu-img" and not targets)
    return Sample(
        round=number,
        bytes=stage.size,
        seconds=used.seconds,
        client_cpu_seconds=used.cpu_seconds,
        server_cpu_seconds=after - before if has_servers else None,
        peak_memory=used.peak_memory,
        reports=used.reports,
    )


def _contestant_result(runner: _Runner, case: Case) -> ContestantResult:
    contestant = runner.contestant
    return ContestantResult(
        name=runner.name,
        program=contestant.program,
        title=contestant.title or runner.name,
        command=tuple(shown(contestant, case)),
        absent=runner.absent,
        failed=runner.failed,
        checked=tuple(runner.checked),
        samples=tuple(runner.samples),
        summary=summarise(runner.samples),
    )


def _bars(suite: Suite, case: Case, contestants: Sequence[ContestantResult]) -> tuple[BarResult, ...]:
    known = {contestant.name: contestant for contestant in contestants}
    everywhere = [bar for bar in suite.bars if bar.of in known and all(name in known for name in bar.rivals)]
    delay_ms = 0 if case.target is None else case.target.delay_ms
    return tuple(judge(bar, known, delay_ms=delay_ms) for bar in (*case.bars, *everywhere))
