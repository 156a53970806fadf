"""Compiling the core and its tests, for the tests of this folder.

The core is compiled once for each set of sanitizers, also when pytest-xdist runs several workers: the first one to come
builds, under a file lock, and the others wait.
"""

import fcntl
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.servers import skip

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HERE = Path(__file__).resolve().parent

COMPILER = os.environ.get("CC", "gcc")
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fno-omit-frame-pointer", "-pthread"]
LIBRARIES = ["-luring", "-lxxhash", "-lzstd", "-lssl", "-lcrypto", "-pthread"]
SANITIZERS = {
    "plain": [],
    "asan+ubsan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={HERE}/tsan.supp:print_suppressions=0",
}
COMPILE_JOBS = 2
TEST_TIMEOUT_S = 120
SKIPPED = 77

SOURCES = sorted(CSRC.glob("*.c"))
HEADERS = sorted(CSRC.glob("*.h"))
TESTS = sorted(HERE.glob("test_*.c"))

Build = Callable[[str], Path]


def run(command: list[str | Path]) -> str:
    """Run a command to its end and return its standard output; its own words are the failure."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TEST_TIMEOUT_S)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def compile_core(folder: Path, flags: list[str]) -> None:
    """Compile csrc/*.c into folder, and pack the objects into core.a."""

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        run([COMPILER, *FLAGS, *flags, "-fPIC", f"-I{CSRC}", "-c", source, "-o", target])
        return target

    with ThreadPoolExecutor(COMPILE_JOBS) as pool:
        objects = list(pool.map(compile_one, SOURCES))
    run(["ar", "rcs", folder / "core.a", *objects])


def build_once(shared: Path, name: str) -> Path:
    """Return the folder with core.a and the objects of a sanitizer set; `shared` is that of all workers."""
    folder = shared / f"csrc-{name}"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "core.a").exists():
            compile_core(folder, SANITIZERS[name])
    return folder


def check(source: Path, sanitizer: str, build: Build, folder: Path) -> None:
    """Compile a C test with a set of sanitizers, and run it in a folder of its own."""
    program = folder / source.stem
    work = folder / "work"
    work.mkdir()
    flags = [*FLAGS, *SANITIZERS[sanitizer], f"-I{CSRC}", f"-I{HERE}"]
    run([COMPILER, *flags, source, build(sanitizer) / "core.a", *LIBRARIES, "-o", program])

    done = subprocess.run(
        [program], cwd=work, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=TEST_TIMEOUT_S
    )

    if done.returncode == SKIPPED:
        skip(done.stdout.strip().removeprefix("SKIPPED: "))
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
