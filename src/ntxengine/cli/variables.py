"""NTX_* variables and keys of the configuration in messages: whoever typed no option is told where the value is."""

from __future__ import annotations

import os
import re

import click
from click.core import ParameterSource

from ntxengine.cli.defaults import place_in_file, value_in_file

_TELLING = (click.Path, click.types.StringParamType)
"""Types of values that are names: one that is in a message is what that is about."""


def hint(error: click.BadParameter) -> str | None:
    """Return what gave the value that is wrong, the option or the variable; None if it is not known."""
    if error.ctx is None or error.param is None or error.param.name is None:
        return None
    if error.ctx.get_parameter_source(error.param.name) is ParameterSource.ENVIRONMENT:
        return _variable(error.param)
    if place := place_in_file(error.ctx, error.param):
        return place
    return None if error.param.param_type_name == "argument" else " / ".join(f"'{name}'" for name in error.param.opts)


def name_in(error: Exception, ctx: click.Context) -> None:
    """Add to an error, as a note, each variable whose value it is about, or where in the configuration that is."""
    for parameter in ctx.command.params:
        place, of_file = place_in_file(ctx, parameter), value_in_file(ctx, parameter)
        if place and isinstance(of_file, str) and of_file and _is_about(str(error), parameter, of_file):
            error.add_note(place)
        name = _variable(parameter)
        if parameter.name is None or name is None:
            continue
        value = os.environ.get(name, "")
        is_used = ctx.get_parameter_source(parameter.name) is ParameterSource.ENVIRONMENT
        if is_used and value and _is_about(str(error), parameter, value):
            error.add_note(f"{name}={value}")


def _is_about(message: str, parameter: click.Parameter, value: str) -> bool:
    """Say whether a message has the value; of words and numbers that any message may have, also the option's name."""
    if not re.search(rf"(?<![\w/.-]){re.escape(value)}(?![\w/-])", message):
        return False
    is_telling = isinstance(parameter.type, _TELLING) and not getattr(parameter, "is_flag", False)
    return is_telling or any(re.search(rf"{re.escape(name)}(?![\w-])", message) for name in parameter.opts)


def notes(error: BaseException) -> str:
    """Return what was added, to go behind the message."""
    return "".join(f" ({note})" for note in getattr(error, "__notes__", ()))


def _variable(parameter: click.Parameter) -> str | None:
    return parameter.envvar if isinstance(parameter.envvar, str) else None
