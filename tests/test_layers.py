"""The layers, as one table: what each part may import, and nothing else.  For Python and for C.

cli, demo, bench -> use cases -> one part of the workflow each -> the data plane -> _core -> csrc
machine, errors, units, ids, events, concurrency and files are below everything; sim stands beside the stack
"""

import ast
import functools
import graphlib
import re
from pathlib import Path

import pytest

from tests.layers_of_c import C_LAYERS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "ntxengine"
CSRC = ROOT / "csrc"

PYTHON_LAYERS = {
    # below everything
    "machine": set(),
    "errors": {"machine"},
    "units": {"errors"},
    "ids": set(),
    "events": set(),
    "concurrency": {"errors"},
    "files": {"errors", "machine", "units"},
    # the data plane, and below it what a connection may go through
    "tunnel": {"concurrency", "errors", "files"},
    "_core": {"errors"},
    "dataplane": {"_core", "tunnel", "concurrency", "errors", "files", "machine", "units"},
    "images": {"_core", "dataplane", "concurrency", "errors", "files", "machine", "units"},
    # one part of the workflow each; `changes` and `attach` see of prism what it is, not how it works
    "prism": {"dataplane", "concurrency", "errors", "ids", "units"},
    "changes": {"prism", "dataplane", "concurrency", "errors", "files", "units"},
    "attach": {"prism", "images", "dataplane", "tunnel", "concurrency", "errors", "ids"},
    "repository": {"dataplane", "images", "concurrency", "errors", "files", "ids", "units"},
    # the use cases
    "capture": {
        "prism", "changes", "attach", "prune", "repository", "images", "_core", "dataplane",
        "concurrency", "errors", "events", "files", "units",
    },
    "export": {
        "capture", "changes", "attach", "prism", "repository", "images", "dataplane", "tunnel", "concurrency", "errors",
        "events", "files", "units",
    },
    "sweep": {"capture", "attach", "prism", "repository", "concurrency", "errors", "events", "files", "units"},
    "check": {"verify", "repository", "images", "dataplane", "concurrency", "errors", "events", "ids", "units"},
    "stats": {"repository", "errors"},
    "compare": {"repository", "dataplane", "errors"},
    "verify": {"repository", "images", "dataplane", "concurrency", "errors", "events", "units"},
    "rebase": {"verify", "repository", "images", "dataplane", "concurrency", "errors", "files"},
    "prune": {"rebase", "repository", "images", "dataplane", "concurrency", "errors", "events", "files", "units"},
    "sync": {"rebase", "repository", "dataplane", "concurrency", "errors", "events", "files"},
    "retention": {"repository", "errors", "units"},
    "probe": {"prism", "attach", "images", "concurrency", "errors", "files", "ids", "units"},
    "restore": {"repository", "images", "_core", "dataplane", "concurrency", "errors", "events", "files", "units"},
    "copying": {"images", "_core", "dataplane", "concurrency", "errors", "files", "units"},
    # the service, which composes use cases
    "agent": {
        "api", "config", "capture", "prune", "retention", "sweep", "prism", "attach", "repository", "dataplane",
        "concurrency", "errors", "events", "files", "units",
    },
    # beside the stack: what it got wrong must not be mirrored in prism
    "sim": {"concurrency", "errors", "units", "ids"},
    # the library: the calls, and the names that `import ntxengine` shows
    "api": {
        "capture", "copying", "restore", "prune", "sync", "prism", "attach", "repository", "images", "dataplane",
        "tunnel", "concurrency", "errors", "events", "ids",
    },
    "__init__": {
        "api", "capture", "compare", "copying", "verify", "restore", "retention", "prism", "repository", "images",
        "check", "prune", "sync", "dataplane", "tunnel", "errors", "events", "stats",
    },
    # the file of configuration: what it means to use cases
    "config": {
        "api", "attach", "capture", "prism", "prune", "retention", "repository", "images", "dataplane", "tunnel",
        "errors", "files", "ids", "units",
    },
    # the top
    "__main__": {"cli"},
    "demo": {"errors", "units"},
    "bench": {"images", "dataplane", "tunnel", "concurrency", "errors", "units"},
    "cli": {
        "agent", "api", "config", "capture", "compare", "copying", "verify", "restore", "retention", "prune", "sweep",
        "sync", "probe", "check", "prism", "attach", "repository", "sim", "demo", "bench", "images", "_core",
        "dataplane", "tunnel", "stats", "concurrency", "errors", "events", "export", "files", "ids", "machine", "units",
    },
}  # fmt: skip

# The parts of a layer that has rooms of its own: what each may import of that layer.
ROOMS = {
    "prism": {
        **{below: set() for below in ("http", "guest", "versions")},
        "models": {"guest", "versions"},
        "findings": {"models"},
        "cluster": {"findings", "models"},
        "regions": {"http", "models"},
        "kept": {"http", "tasks"},
        **{above_http: {"http"} for above_http in ("iscsi", "reach", "tasks", "pages", "place")},
        "listing": {"http", "models", "pages"},
        **{
            family: {
                "findings", "guest", "http", "iscsi", "kept", "listing", "models", "pages", "regions", "tasks",
                "versions",
            }
            for family in ("v3", "v4")
        },
        "probe": {"findings", "http", "v3", "v4"},
        "inquiry": {"cluster", "findings", "http", "place", "probe", "v3", "v4"},
        "open": {"cluster", "http", "place", "probe", "v3", "v4"},
        "__init__": {"cluster", "findings", "guest", "http", "models", "open"},
    },
}  # fmt: skip


def public_names(unit: str) -> set[str]:
    """Return what a package offers by its `__all__`."""
    body = ast.parse((PACKAGE / unit / "__init__.py").read_text()).body
    values = (node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    return set(ast.literal_eval(next(values)))


# What these layers may see of another.
FACADES = {
    "ntxengine.prism": {
        "attach": {"cluster", "findings", "models"},
        "capture": {"cluster", "models", "versions"},
        "export": {"cluster", "models", "Secret"},
        **{layer: {"cluster", "models"} for layer in ("changes", "sweep")},
    },
    "ntxengine.repository": dict.fromkeys(
        (
            "capture",
            "compare",
            "export",
            "stats",
            "sweep",
            "sync",
            "verify",
            "restore",
            "retention",
            "rebase",
            "prune",
            "api",
            "agent",
            "config",
            "__init__",
            "cli",
        ),
        public_names("repository"),
    )
    | {"check": public_names("repository") | {"structure"}},
    # Use cases ask for an image to read or to write, and do not know what is behind it.
    "ntxengine.images": {
        "attach": {"process", "qemu_img", "qemu_nbd", "served"},
        "capture": {"choice", "create", "open"},
        "export": {"qemu_nbd", "served"},
        "restore": {"choice", "create", "formats", "open"},
        "check": {"qemu_img"},
        "verify": {"open"},
        "probe": {"qemu_img"},
        "prune": {"create", "header", "open"},
        "rebase": {"choice", "create", "header", "open", "writer"},
        "repository": {"create", "header", "qemu_img", "qemu_nbd", "rebase", "served"},
        "copying": {"choice", "endpoints", "targets"},
        "api": {"choice", "endpoints"},
        "config": {"choice"},
        "__init__": {"choice"},
        "cli": {"choice", "endpoints", "formats", "targets"},
    },
}

# Libraries that have one home.
LIBRARY_HOMES = {
    "httpx": {"export/notify.py", "prism/http/session.py"},
    "click": {"cli/"},
    "rich": {"cli/"},
    "uvloop": {"cli/loop.py"},
    "starlette": {"export/", "sim/"},
    "uvicorn": {"export/", "sim/"},
    "trustme": {"sim/"},
    "yaml": {"sim/", "bench/suite.py", "config/"},
    "pydantic": {"config/"},
    "matplotlib": {"bench/plot.py"},
    "sqlite3": {"agent/database.py", "agent/state.py", "repository/"},
    "cronsim": {"agent/schedule.py", "config/"},
}

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
