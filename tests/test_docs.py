"""The documents: links lead somewhere, every option is described, and every example that says so really runs."""

import ast
import dataclasses
import inspect
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest

from ntxengine import errors
from ntxengine.cli.main import COMMANDS, ntx
from ntxengine.prism.v3 import api as v3_api
from ntxengine.prism.v4 import api as v4_api
from ntxengine.prism.v4.volumes_api import VolumesApi
from ntxengine.sim.faults import (
    ANSWER_FAULTS,
    CERTIFICATE_FAULTS,
    REGION_FAULTS,
    TASK_FAULTS,
    VOLUME_FAULTS,
    Faults,
)
from ntxengine.sim.faults.lists import ASKED_FAULTS, FOUND_FAULTS
from ntxengine.sim.odd import ODD_V3, ODD_V4

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
RUNNABLE = re.compile(r"<!-- runnable -->\n```console\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

PRELUDE = """\
set -euo pipefail
export TMPDIR="$PWD"
trap '[ -e lab/sim.lock ] && ntx sim --state lab --stop --quiet || true; kill $(jobs -p) 2> /dev/null || true' EXIT
"""
"""A failing example leaves no simulator, no agent, and nothing outside of the test's folder."""


def documents_that_run() -> list[Path]:
    return [path for path in DOCUMENTS if RUNNABLE.search(path.read_text())]


def script_of(document: Path) -> str:
    """Return the commands of all runnable examples of a document, in order: one session."""
    lines = [PRELUDE]
    for block in RUNNABLE.findall(document.read_text()):
        for line in block.splitlines():
            assert line.startswith("$ "), f"{document.name}: a runnable example has only commands, not {line!r}"
            lines.append(line.removeprefix("$ "))
    return "\n".join(lines) + "\n"


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with `ntx`, where the documents say that it is."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    script = folder / "ntx"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "src"}" exec "{sys.executable}" -m ntxengine "$@"\n')
    script.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    "package", sorted((ROOT / "src/ntxengine").glob("*/**/__init__.py")), ids=lambda path: path.parent.name
)
def test_a_package_that_lists_its_files_lists_all(package: Path) -> None:
    named = re.findall(r"[a-z0-9_*]+\.py\b", ast.get_docstring(ast.parse(package.read_text())) or "")
    files = {path.name for path in package.parent.glob("*.py")} - {"__init__.py"}

    assert not named or [name for name in sorted(files) if not any(fnmatch(name, each) for each in named)] == []
    assert [each for each in named if not any(fnmatch(name, each) for name in files)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document

        assert target.exists(), f"{document.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{document.name}: {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_of_the_code_that_are_named_exist(document: Path) -> None:
    named = re.findall(r"`([\w/]+\.(?:py|pyx|c|h))`", document.read_text())

    missing = [name for name in named if not any((ROOT / top / name).exists() for top in ("", "src/ntxengine", "csrc"))]

    assert not missing


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()

    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} == set(LINK.findall(index))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_described(name: str) -> None:
    document = (ROOT / "docs" / "cli.md").read_text()
    command = ntx.get_command(click.Context(ntx), name)
    assert command is not None

    section = re.search(rf"^## ntx {name}\n(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL)

    assert section is not None, f"docs/cli.md has no section on ntx {name}"
    shared = "".join(re.findall(r"^## Options of .*?(?=^## )", document, re.MULTILINE | re.DOTALL))
    for option in (word for parameter in command.params for word in parameter.opts if word.startswith("-")):
        assert f"`{option}" in section[1] + shared, f"docs/cli.md does not describe {option} of ntx {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_described_that_does_not_exist(name: str) -> None:
    document = (ROOT / "docs" / "cli.md").read_text()
    command = ntx.get_command(click.Context(ntx), name)
    assert command is not None
    known = {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}

    section = re.search(rf"^## ntx {name}\n(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL)
    assert section is not None
    rows = re.findall(r"^\| `(-[^|]*?) \|", section[1], re.MULTILINE)
    described = {word for row in rows for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)}

    assert described <= known


def test_every_exit_code_is_in_the_table() -> None:
    table = (ROOT / "docs" / "errors.md").read_text()
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.NtxError)]

    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}

    assert {kind.exit_code for kind in classes} | {0, 2, 3, 129, 130, 143} == documented
    for kind in classes:
        assert f"`{kind.__name__}`" in table or kind.__subclasses__(), f"docs/errors.md does not name {kind.__name__}"


def tree_of(kind: type[errors.NtxError], depth: int = 0) -> list[str]:
    public = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return ["  " * depth + kind.__name__, *(line for each in public for line in tree_of(each, depth + 1))]


def test_the_tree_of_exceptions_is_drawn_as_it_is() -> None:
    drawn = re.search(r"```\n(NtxError\n.*?)```", (ROOT / "docs" / "errors.md").read_text(), re.DOTALL)

    assert drawn is not None
    assert drawn[1].splitlines() == tree_of(errors.NtxError)


@pytest.mark.parametrize("document", documents_that_run(), ids=lambda path: path.name)
def test_examples_run(document: Path, tmp_path: Path, bin_folder: Path) -> None:
    assert shutil.which("qemu-img") is not None, "qemu-utils is not installed: scripts/install-packages.sh test"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
    environment = {**kept, "NTX_SIM_PORT": "0"}

    done = subprocess.run(
        ["bash", "-x", "-c", script_of(document)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_fault_and_style_of_the_simulator_is_described() -> None:
    document = (ROOT / "docs" / "simulator.md").read_text()
    names = [
        *ANSWER_FAULTS,
        *REGION_FAULTS,
        *TASK_FAULTS,
        *CERTIFICATE_FAULTS,
        *VOLUME_FAULTS,
        *ASKED_FAULTS,
        *FOUND_FAULTS,
        *ODD_V4,
        *ODD_V3,
        *(field.name for field in dataclasses.fields(Faults)),
    ]

    assert [name for name in names if f"`{name}`" not in document] == []


def test_every_call_to_a_cluster_has_its_judge_in_the_table() -> None:
    document = (ROOT / "docs" / "prism.md").read_text()
    described = re.findall(r"^\| `(v[34]\.\w+)` \|", document, re.MULTILINE)
    calls = [f"v4.{name}" for name in (*_calls(v4_api), *_calls(v4_api.CentralApi), *_calls(VolumesApi))]
    calls += [f"v3.{name}" for name in (*_calls(v3_api), *_calls(v3_api.ElementApi))]

    assert sorted(described) == sorted(calls)


def _calls(where: object) -> list[str]:
    return [name for name, value in vars(where).items() if inspect.iscoroutinefunction(value) and name[0] != "_"]


@pytest.mark.parametrize("document", ["nbd.md", "security.md"])
def test_what_a_document_says_proves_it_is_a_test(document: str) -> None:
    named = set(re.findall(r"\b(?:test|fuzz)_\w+\.(?:c|py)\b", (ROOT / "docs" / document).read_text()))

    assert named
    assert not named - {path.name for path in (ROOT / "tests").rglob("*")}
