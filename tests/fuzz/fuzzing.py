"""The fuzzers of the C parsers: libFuzzer with the address and undefined-behaviour sanitizers, each on what it parses.

    fuzz_NAME.c       from bytes to the parser, and what must hold whatever they are
    corpus/NAME/      inputs that reach all that was ever reached; small, and made smaller by `-merge=1`
    python -m tests.fuzz.fuzzing SECONDS [NAME...]      `make fuzz`: runs each for so long

What a run finds is left in `.fuzz/NAME/`, and an input that fails is named in the message: it becomes a C test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
CORPUS = HERE / "corpus"
WORK = ROOT / ".fuzz"

NAMES = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))

CORE = [
    "clock", "device", "device_chain", "device_ring", "error", "event", "extent", "extent_json", "file_bytes",
    "file_io", "qcow2_chain", "qcow2_format", "qcow2_header", "qcow2_reads", "qcow2_unpack", "qcow2_window", "stop",
    "stream", "stream_tls", "stream_tls_io", "tls", "tls_bio", "tls_reason",
]  # fmt: skip
"""What of the core the parsers need, besides nbd_*.c that open nothing."""
OPENING = {"nbd_conn", "nbd_open", "nbd_places"}

FLAGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    "-pthread",
]
LIBRARIES = ["-luring", "-lzstd", "-lssl", "-lcrypto", "-pthread"]
SANITIZERS = "address,undefined"
LONGEST_INPUT = 20_000
LIMIT_MB = 1024


@dataclass(frozen=True)
class Finding:
    """A run that failed: what libFuzzer says, the input's path among it."""

    name: str
    text: str


def build(folder: Path) -> None:
    """Compile every fuzzer into `folder`."""
    sources = [CSRC / f"{name}.c" for name in CORE]
    sources += sorted(path for path in CSRC.glob("nbd_*.c") if path.stem not in OPENING)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: _compile(source, folder, f"fuzzer-no-link,{SANITIZERS}"), sources))
        list(pool.map(lambda name: _link(name, objects, folder), NAMES))


def _compile(source: Path, folder: Path, sanitizers: str) -> Path:
    target = folder / f"{source.stem}.o"
    sanitize = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    _run(["clang", *FLAGS, *sanitize, f"-I{CSRC}", f"-I{HERE}", "-c", source, "-o", target])
    return target


def _link(name: str, objects: list[Path], folder: Path) -> None:
    fuzzer = _compile(HERE / f"fuzz_{name}.c", folder, f"fuzzer,{SANITIZERS}")
    _run(["clang", f"-fsanitize=fuzzer,{SANITIZERS}", fuzzer, *objects, *LIBRARIES, "-o", folder / name])


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def fuzz(name: str, program: Path, work: Path, *, seconds: int) -> Finding | None:
    """Run everything in the corpus, then what libFuzzer makes of it for so long; new inputs are left in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=10", f"-rss_limit_mb={LIMIT_MB}"]
    done = subprocess.run(
        [program, *limits, f"-artifact_prefix={work}/", "-print_final_stats=1", work, CORPUS / name],
        env=os.environ | {"UBSAN_OPTIONS": "print_stacktrace=1"},
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=False,
    )
    if done.returncode != 0:
        return Finding(name, done.stderr[-4000:])
    ended = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
    sys.stdout.write(f"{name}: {' '.join(ended)}\n")
    sys.stdout.flush()
    return None


def main(seconds: int, names: list[str]) -> int:
    """Fuzz, and say what was found; returns the exit code."""
    folder = WORK / "build"
    folder.mkdir(parents=True, exist_ok=True)
    build(folder)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda name: fuzz(name, folder / name, WORK / name, seconds=seconds), names or NAMES))
    for each in filter(None, found):
        sys.stderr.write(f"{each.name}: FAILED\n{each.text}\n")
    return 1 if any(found) else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
