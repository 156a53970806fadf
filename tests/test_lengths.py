"""No file and no function is longer than a person reads.  A limit is met by meaning, not by moving text about."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"

MAX_LINES = {".py": 400, ".pyx": 400, ".c": 500, ".h": 500}
MAX_FUNCTION_LINES = 100


def measured_files() -> list[Path]:
    found = (path for folder in ("src", "csrc", "tests", "bench") for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in MAX_LINES and not is_generated(path))


def is_generated(path: Path) -> bool:
    """Return whether Cython wrote it."""
    return path.suffix == ".c" and path.with_suffix(".pyx").exists()


def test_no_file_is_longer_than_a_person_reads() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in measured_files()}

    too_long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES[path.suffix]}

    assert not too_long


def test_no_python_function_is_longer_than_its_limit() -> None:
    too_long = {}
    for path in measured_files():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    too_long[f"{path.relative_to(ROOT)}:{node.name}"] = length

    assert not too_long


def test_no_c_function_is_longer_than_its_limit() -> None:
    too_long = {}
    for path in CSRC.glob("*.c"):
        start = 0
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == "{":
                start = number
            elif line == "}" and number - start > MAX_FUNCTION_LINES:
                too_long[f"{path.name}:{start}"] = number - start

    assert not too_long
