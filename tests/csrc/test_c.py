"""Runs every C test under two sets of sanitizers, and holds the rules of csrc/ that a compiler can check.

The core is compiled once for each set, also when pytest-xdist runs several workers: the first one to come builds,
under a file lock, and the others wait.
"""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HERE = Path(__file__).resolve().parent

COMPILER = os.environ.get("CC", "gcc")
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fno-omit-frame-pointer", "-pthread"]
LIBRARIES = ["-luring", "-lxxhash", "-pthread"]
SANITIZERS = {
    "plain": [],
    "asan+ubsan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
COMPILE_JOBS = 2
TEST_TIMEOUT_S = 120
SKIPPED = 77

SOURCES = sorted(CSRC.glob("*.c"))
HEADERS = sorted(CSRC.glob("*.h"))
TESTS = sorted(HERE.glob("test_*.c"))
FORMATTED = sorted([*SOURCES, *HEADERS, *HERE.glob("*.[ch]")])

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


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function from the name of a sanitizer set to the folder with core.a and the objects."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def build_one(name: str) -> Path:
        folder = shared / f"csrc-{name}"
        folder.mkdir(exist_ok=True)
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "core.a").exists():
                compile_core(folder, SANITIZERS[name])
        return folder

    return build_one


@pytest.mark.parametrize("sanitizer", ["asan+ubsan", "tsan"])
@pytest.mark.parametrize("source", TESTS, ids=lambda source: source.stem.removeprefix("test_"))
def test_c(source: Path, sanitizer: str, build: Build, tmp_path: Path) -> None:
    program = tmp_path / source.stem
    work = tmp_path / "work"
    work.mkdir()
    flags = [*FLAGS, *SANITIZERS[sanitizer], f"-I{CSRC}", f"-I{HERE}"]
    run([COMPILER, *flags, source, build(sanitizer) / "core.a", *LIBRARIES, "-o", program])

    done = subprocess.run(
        [program], cwd=work, env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=TEST_TIMEOUT_S
    )

    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip().removeprefix("SKIPPED: "))
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ["zero", "digest"])
def test_kernels_of_other_processors_agree_too(name: str, tmp_path: Path) -> None:
    """What is compiled where there is no x86-64: the same tests, without the kernels for it."""
    program = tmp_path / name
    flags = [*FLAGS, *SANITIZERS["asan+ubsan"], "-DNTX_PLAIN_KERNELS", f"-I{CSRC}", f"-I{HERE}"]

    run([COMPILER, *flags, HERE / f"test_{name}.c", CSRC / "zero.c", CSRC / "digest.c", *LIBRARIES, "-o", program])

    assert "avx2" not in run(["nm", program])
    run([program])


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_header_compiles_alone(header: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.c"
    alone.write_text(f'#include "{header.name}"\n#include "{header.name}"\n')

    run([COMPILER, *FLAGS, f"-I{CSRC}", "-c", alone, "-o", tmp_path / "alone.o"])


def symbols(build: Build) -> list[tuple[str, str, str]]:
    """Return (object, symbol, section) for every symbol of the core compiled without sanitizers."""
    rows = []
    for path in sorted(build("plain").glob("*.o")):
        for line in run(["nm", "--format=sysv", path]).splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) == 7:
                rows.append((path.stem, fields[0], fields[6]))
    return rows


def is_writable(section: str) -> bool:
    """Tell whether data in the section can change.  .data.rel.ro is written by the loader only."""
    if section.startswith(".data.rel.ro"):
        return False
    return section.startswith((".data", ".bss", ".tdata", ".tbss", "*COM*"))


def test_core_has_no_globals(build: Build) -> None:
    rows = symbols(build)

    assert ("zero", "ntx_zeros", ".rodata") in rows
    assert [row for row in rows if is_writable(row[2])] == []


def test_core_does_not_print_exit_or_read_the_environment(build: Build) -> None:
    forbidden = re.compile(
        r"_*(v?f?printf|v?dprintf|f?puts|f?putc|putchar|perror|v?syslog|exit|Exit|quick_exit|abort|assert_fail"
        r"|(secure_)?getenv|stdout|stderr)(_chk)?"
    )

    rows = symbols(build)

    assert any(name == "vsnprintf" for _, name, _ in rows)
    assert [row for row in rows if row[2] == "*UND*" and forbidden.fullmatch(row[1])] == []


def test_core_is_formatted() -> None:
    if shutil.which("clang-format") is None:
        reason = "clang-format is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    run(["clang-format", "--dry-run", "-Werror", *FORMATTED])
