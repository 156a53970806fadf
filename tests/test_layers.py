"""The layers: each part imports what the tables let it, and nothing else.  For Python and for C."""

import ast
import functools
import graphlib
import re
from pathlib import Path

import pytest

from tests.layers_of_c import C_LAYERS
from tests.layers_of_python import FACADES, LIBRARY_HOMES, PACKAGE, PYTHON_LAYERS, ROOMS

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"

CLOCK_READERS = {"clock.c"}


def python_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyi", ".pyx"))


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Return every module or name that a Python file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def imported_units(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path) if name.startswith("ntxengine."))
    return {parts[1] for parts in names} - {unit_of(path), "__version__"}


def module_files() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("ntxengine", *path.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


def top_level_imports(path: Path) -> set[str]:
    """Return the modules that are imported when the module is: not in functions, not for type checkers."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_every_part_of_the_package_is_in_the_table() -> None:
    parts = {unit_of(path) for path in PACKAGE.rglob("*.py")}

    assert parts == set(PYTHON_LAYERS)


@pytest.mark.parametrize(
    "path", [p for p in python_files() if p.suffix == ".py"], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_down_only(path: Path) -> None:
    not_allowed = imported_units(path) - PYTHON_LAYERS[unit_of(path)]

    assert not not_allowed, f"{path.relative_to(ROOT)} may not import {sorted(not_allowed)}"


def test_the_package_itself_loads_no_part_of_it() -> None:
    """Whoever imports a part imports it first.  What it shows is imported for type checkers, and fetched when used."""
    loaded = top_level_imports(PACKAGE / "__init__.py")

    assert loaded == {"importlib", "typing", "typing.TYPE_CHECKING"}


@pytest.mark.parametrize("layer", ROOMS)
def test_imports_point_down_only_inside_a_layer(layer: str) -> None:
    rooms = ROOMS[layer]
    seen: dict[str, set[str]] = {}
    for path in (PACKAGE / layer).rglob("*.py"):
        room = path.relative_to(PACKAGE / layer).parts[0].removesuffix(".py")
        names = (name.split(".") for name in imports(path) if name.startswith(f"ntxengine.{layer}."))
        seen.setdefault(room, set()).update({parts[2] for parts in names} - {room})

    graphlib.TopologicalSorter(rooms).prepare()
    assert seen.keys() == rooms.keys()
    assert not {room: found - rooms[room] for room, found in seen.items() if found - rooms[room]}


@pytest.mark.parametrize("facade", FACADES)
def test_only_the_facade_of_a_layer_is_used(facade: str) -> None:
    for path in python_files():
        allowed = FACADES[facade].get(unit_of(path))
        if path.suffix != ".py" or allowed is None:
            continue

        inner = (name.removeprefix(f"{facade}.") for name in imports(path) if name.startswith(f"{facade}."))
        seen = {name.split(".")[0] for name in inner}

        assert seen <= allowed, f"{path.relative_to(ROOT)} sees {sorted(seen - allowed)} of {facade}"


def test_neither_table_has_a_circle() -> None:
    graphlib.TopologicalSorter(PYTHON_LAYERS).prepare()


def test_no_module_imports_itself_through_others() -> None:
    files = module_files()

    graph = {name: (top_level_imports(path) & files.keys()) - {name} for name, path in files.items()}
    # A package's __init__ names its modules, and they are loaded through it: that is no circle of meaning.
    for name, path in files.items():
        if path.name == "__init__.py":
            graph[name] = {other for other in graph[name] if not other.startswith(f"{name}.")}

    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("library", LIBRARY_HOMES)
def test_a_library_is_imported_only_where_it_lives(library: str) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == library for name in imports(path))
    }

    strangers = {user for user in users if not any(user.startswith(home) for home in LIBRARY_HOMES[library])}

    assert users, f"nobody imports {library}: take it from the table"
    assert not strangers


def test_only_the_copy_knows_the_job_of_the_core() -> None:
    users = {path for path in PACKAGE.rglob("*.py") if "ntxengine._core.engine.Job" in imports(path)}

    assert users == {PACKAGE / "dataplane" / name for name in ("copy.py", "transfer.py")}


def test_only_the_binding_includes_the_header() -> None:
    users = {
        unit_of(path)
        for path in PACKAGE.rglob("*.p*")
        if path.suffix in (".pyx", ".pxd") and "cdef extern from" in path.read_text()
    }

    assert users == {"_core"}


def test_the_binding_knows_nothing_of_asyncio() -> None:
    text = "".join(path.read_text() for path in (PACKAGE / "_core").glob("*.py*") if path.suffix != ".pyc")

    assert "asyncio" not in text


# ------------------------------------------------------------------------------------------------------------- C


def c_files() -> list[Path]:
    return sorted([*CSRC.glob("*.c"), *CSRC.glob("*.h")])


def includes(path: Path) -> set[str]:
    return {Path(name).stem for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)}


def layer_of(path: Path) -> set[str] | None:
    """Return what a C file may include.  `worker_span.c` belongs to `worker` where the table does not name it."""
    return next(
        (C_LAYERS[stem] | {stem} for stem in (path.stem, path.stem.rpartition("_")[0]) if stem in C_LAYERS), None
    )


@pytest.mark.parametrize("path", c_files(), ids=lambda p: p.name)
def test_includes_point_down_only(path: Path) -> None:
    allowed = layer_of(path)
    assert allowed is not None, f"{path.name} is not in the table"

    not_allowed = includes(path) - allowed

    assert not not_allowed, f"{path.name} may not include {sorted(not_allowed)}"


def test_units_of_c_stand_on_each_other_without_a_circle() -> None:
    """A unit is the .c and the .h of one name."""
    graph: dict[str, set[str]] = {}
    for path in c_files():
        graph.setdefault(path.stem, set()).update(includes(path) - {path.stem})

    graphlib.TopologicalSorter(graph).prepare()


def test_neither_has_the_table_of_c_a_circle() -> None:
    graphlib.TopologicalSorter(C_LAYERS).prepare()


@pytest.mark.parametrize("path", c_files(), ids=lambda p: p.name)
def test_the_core_neither_knows_python_nor_prints_nor_exits(path: Path) -> None:
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
    code = re.sub(r'"(?:\\.|[^"\\])*"', '""', code)

    forbidden = re.findall(
        r"\b(?:Python\.h|Py_\w+|printf|fprintf|puts|perror|exit|_exit|abort|getenv|syslog)\b(?=\s*\()", code
    )

    assert not forbidden
    assert "<Python.h>" not in code


def test_a_clock_is_read_in_one_place() -> None:
    readers = {
        path.name for path in c_files() if re.search(r"\b(clock_gettime|gettimeofday|time)\s*\(", path.read_text())
    }

    assert readers <= CLOCK_READERS
