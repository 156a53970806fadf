"""Use cases speak in types, and nothing is reached by a name that is put together when it runs."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "ntxengine"

USE_CASES = ("capture", "restore", "verify", "sweep")

# Where a name is looked up that no type checker sees, and why it has to be.
BY_NAME = {
    "__init__.py": "the public names load their modules when they are first used",
    "cli/lazy.py": "a command loads its module when it is called",
    "bench/client.py": "what a result holds is the part of a report that it has a field for",
}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    every += [each for each in (function.args.vararg, function.args.kwarg) if each is not None]
    return [ast.unparse(each) for each in (*(arg.annotation for arg in every), function.returns) if each is not None]


@pytest.mark.parametrize("use_case", USE_CASES)
def test_no_use_case_is_read_through_loose_dictionaries(use_case: str) -> None:
    loose = {
        f"{path.name}:{function.name}"
        for path in (PACKAGE / use_case).rglob("*.py")
        for function in functions(path)
        if any("dict[str, Any]" in text or "Mapping[str, Any]" in text for text in annotations(function))
    }

    assert not loose


def escapes(path: Path) -> list[str]:
    """Return what looks a thing up by a name that is not written there."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "globals()":
            found.append(ast.unparse(node))
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        is_literal = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
        is_lookup = name in ("getattr", "setattr", "delattr") and not is_literal
        if is_lookup or name in ("importlib.import_module", "import_module", "__import__"):
            found.append(ast.unparse(node))
    return found


def test_nothing_is_reached_by_a_name_put_together_at_run_time() -> None:
    found = {str(path.relative_to(PACKAGE)): escapes(path) for path in PACKAGE.rglob("*.py")}

    assert {path for path, calls in found.items() if calls} == set(BY_NAME), found
