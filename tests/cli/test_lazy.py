"""Groups of commands that load what they have when it is used."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ntxengine.cli.agent import agent_command
from ntxengine.cli.lazy import Entry, LazyGroup
from tests.cli.ntx import ntx


def group(**entries: Entry) -> LazyGroup:
    return LazyGroup("group", entries=entries)


def test_overview_and_completion_load_no_command() -> None:
    broken = group(far=Entry("no_such_module", "Go far."), near=Entry("no_such_module", "Stay near."))

    ran = CliRunner().invoke(broken, ["--help"])
    completed = broken.shell_complete(click.Context(broken), "n")

    assert "far   Go far." in ran.output
    assert [each.value for each in completed] == ["near"]


def test_command_is_loaded_from_its_module_by_its_name() -> None:
    found = group(agent=Entry("agent", "...")).get_command(click.Context(group()), "agent")

    assert found is agent_command


@pytest.mark.parametrize("arguments", [("nosuch",), ("--state", "x", "nosuch")])
def test_agent_says_that_it_has_no_such_command(arguments: tuple[str, ...]) -> None:
    ran = ntx("agent", *arguments)

    assert ran.code == 2
    assert ran.err == "ntx: No such command 'nosuch'. See: ntx agent --help\n"
