"""Runs every C test under the address and undefined-behaviour sanitizers, and holds the rules of csrc/ that a compiler
can check.  test_c_threads.py does the same with threads: a file is run by one worker, and these are the longest two.
"""

import re
from pathlib import Path

import pytest

from tests.csrc.compiling import (
    COMPILER,
    CSRC,
    FLAGS,
    HEADERS,
    HERE,
    LIBRARIES,
    SANITIZERS,
    SOURCES,
    TESTS,
    Build,
    check,
    run,
)
from tests.support.servers import require

pytestmark = pytest.mark.slow

FORMATTED = sorted([*SOURCES, *HEADERS, *HERE.glob("*.[ch]")])


@pytest.mark.parametrize("source", TESTS, ids=lambda source: source.stem.removeprefix("test_"))
def test_c(source: Path, build: Build, tmp_path: Path) -> None:
    check(source, "asan+ubsan", build, tmp_path)


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
    require("clang-format")
    run(["clang-format", "--dry-run", "-Werror", *FORMATTED])
