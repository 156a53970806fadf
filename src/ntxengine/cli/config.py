"""`ntx config`: the file of configuration, looked at, shown and begun."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ntxengine.cli.defaults import load_file, require_libraries
from ntxengine.cli.options import common_options
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FILE
from ntxengine.cli.text import plural

if TYPE_CHECKING:
    from ntxengine.config.problems import Problem

_USAGE = 2

file_argument = click.argument("file", required=False, type=FILE)


@click.group("config")
def config_command() -> None:
    """Look at the file of configuration that `ntx --config FILE` and the agent read.

    \b
    Examples:
      ntx config example > agent.yaml
      ntx config check agent.yaml
      ntx --config agent.yaml --profile lab config show
    """


@config_command.command("check")
@file_argument
@common_options
def check_command(file: Path | None, screen: Screen) -> int:
    """Say everything that is wrong with FILE: line, key, what is wrong, and the nearest right one.

    FILE is that of --config if none is named.  Exit code 0: no mistakes, though perhaps warnings; 2: mistakes.

    \b
    Example:
      ntx config check agent.yaml
    """
    name = _named(file)
    require_libraries()
    from ntxengine.config.problems import ConfigError

    warnings: list[Problem] = []
    jobs = 0
    try:
        loaded = load_file(name)
        from ntxengine.config.named_files import look_at_files

        warnings = [*loaded.found, *look_at_files(loaded)]
        jobs = len(loaded.config.jobs)
        mistakes: list[Problem] = []
    except ConfigError as exc:
        mistakes = exc.found
    if screen.as_json:
        told = {"mistakes": [_fields(each) for each in mistakes], "warnings": [_fields(each) for each in warnings]}
        screen.result({"file": name, **told})
    else:
        for each in mistakes:
            screen.line(each.text(name))
        for each in warnings:
            screen.warning(each.text(name))
        if not screen.quiet:
            count = plural(len(mistakes), "mistake") if mistakes else f"no mistakes; {plural(jobs, 'job')}"
            screen.line(f"{name}: {count}")
    return _USAGE if mistakes else 0


@config_command.command("show")
@file_argument
@common_options
def show_command(file: Path | None, screen: Screen) -> None:
    """Show every value that holds, with defaults: of --profile, if that is given.

    A secret is ***.  A text with variables is shown as it stands in the file: a variable may hold a secret.

    \b
    Example:
      ntx --profile lab config show agent.yaml
    """
    loaded = load_file(_named(file))
    from ntxengine.config.showing import as_yaml, effective

    found = effective(loaded, _root().params.get("profile"))
    if screen.as_json:
        screen.result(found)
    else:
        for line in as_yaml(found).splitlines():
            screen.line(line)


@config_command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the file, for editors and programs.

    \b
    Example:
      ntx config schema > ntx-config.json
    """
    import json

    require_libraries()
    from ntxengine.config.showing import schema

    click.echo(json.dumps(schema(), indent=2))


@config_command.command("example")
def example_command() -> None:
    """Print a commented file to begin with.

    \b
    Example:
      ntx config example > agent.yaml
    """
    require_libraries()
    from ntxengine.config.showing import example

    click.echo(example(), nl=False)


def _root() -> click.Context:
    return click.get_current_context().find_root()


def _named(file: Path | None) -> str:
    if name := file or _root().params.get("config_file"):
        return str(name)
    raise click.UsageError("name a FILE, or give --config FILE before the command")


def _fields(problem: Problem) -> dict[str, object]:
    from ntxengine.config.problems import key_text

    return {
        "line": problem.mark.line or None,
        "column": problem.mark.column or None,
        "key": key_text(problem.path),
        "message": problem.message,
    }
