"""`--help` teaches, and is quick because nothing heavy is loaded for it."""

import re
import subprocess
import sys

import click
import pytest

from ntxengine.cli import main
from ntxengine.cli.main import COMMANDS
from tests.cli.ntx import all_commands, environment, ntx

HEAVY = {
    "numpy",
    "httpx",
    "rich",
    "asyncio",
    "msgspec",
    "xxhash",
    "uvloop",
    "starlette",
    "pickle",
    "ntxengine._core",
    "ntxengine.dataplane.copy",
}


def loaded_by(program: str) -> set[str]:
    """Return the modules that are loaded when `program` has run."""
    code = f"import sys\ntry:\n    {program}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stderr.split())


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("from ntxengine.cli.main import main; main(['--help'])")

    assert "click" in loaded
    assert not loaded & HEAVY


def test_version_loads_nothing_heavy() -> None:
    assert not loaded_by("from ntxengine.cli.main import main; main(['--version'])") & HEAVY


def test_completing_a_command_loads_nothing_heavy() -> None:
    loaded = loaded_by(
        "import os; os.environ.update(_NTX_COMPLETE='bash_complete', COMP_WORDS='ntx ca', COMP_CWORD='1');"
        " from ntxengine.cli.main import main; main([])"
    )

    assert not loaded & HEAVY


def test_the_overview_names_every_command() -> None:
    ran = ntx("--help")

    assert ran.code == 0
    assert set(re.findall(r"^  ([a-z]+)  +[A-Z]", ran.out, re.MULTILINE)) >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_says_what_it_does_and_shows_examples(command: str) -> None:
    ran = ntx(command, "-h")

    assert ran.code == 0
    assert ran.err == ""
    paragraph = ran.out.split("\n\n")[1]
    assert len(paragraph.split()) > 5
    examples = ran.out.split("Examples:")[1]
    assert len(re.findall(rf"ntx {command}\b", examples)) >= 2 or command in ("sim", "completion")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_help_is_wider_than_a_terminal(command: str) -> None:
    ran = ntx(command, "-h", env={"COLUMNS": "80"})

    assert max(map(len, ran.out.splitlines())) <= 100


def test_help_calls_a_number_what_it_is_and_not_what_type_it_has() -> None:
    for name, command in all_commands().items():
        assert "INTEGER" not in command.get_help(click.Context(command)), name


def test_without_a_command_the_overview_is_shown() -> None:
    ran = ntx()

    assert ran.code == 2
    assert "Usage: ntx" in ran.err
    assert "capture" in ran.err


def test_version() -> None:
    ran = ntx("--version")

    assert ran.code == 0
    assert re.fullmatch(r"ntx \d+\.\d+\S*\n", ran.out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_for_our_name(shell: str) -> None:
    ran = ntx("completion", shell)

    assert ran.code == 0
    assert "_NTX_COMPLETE" in ran.out


def test_completion_completes_commands_and_options() -> None:
    command = {"_NTX_COMPLETE": "bash_complete", "COMP_WORDS": "ntx c", "COMP_CWORD": "1"}
    option = {"_NTX_COMPLETE": "bash_complete", "COMP_WORDS": "ntx copy --target-i", "COMP_CWORD": "2"}

    commands, options = ntx(env=command), ntx(env=option)

    assert {line.split(",")[1] for line in commands.out.splitlines()} == {
        "capture",
        "check",
        "copy",
        "cutover",
        "checksum",
        "completion",
        "config",
    }
    assert options.out == "plain,--target-is-zero\n"


def test_bash_takes_the_completion_script() -> None:
    script = ntx("completion", "bash").out

    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False, timeout=30)

    assert done.returncode == 0
    assert done.stderr == ""


def test_help_names_every_variable() -> None:
    overview = ntx("--help").out
    known = {"NTX_PASSWORD", "NTX_ELEMENT_PASSWORD", "NTX_API_KEY"}  # secrets have no option
    for name, command in {"": main.ntx, **all_commands()}.items():
        variables = {parameter.envvar for parameter in command.params if isinstance(parameter.envvar, str)}
        help_text = command.get_help(click.Context(command))

        assert all(variable in help_text for variable in variables), name
        known |= variables

    assert set(re.findall(r"NTX_[A-Z_]+", overview)) == known
