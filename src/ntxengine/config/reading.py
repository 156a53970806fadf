"""From a file to a configuration, or to everything that is wrong with it.

    bytes --document.py--> texts with places --pydantic--> models --checks.py--> what fits together

What is wrong by itself is taken out and the rest is read again: so what does not fit together is said at once, too.
"""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ntxengine.config.checks import check
from ntxengine.config.document import Document, Value, read_document, read_file
from ntxengine.config.file import Config
from ntxengine.config.part import Part
from ntxengine.config.problems import KeyPath, Problem, config_error, in_order, nearest

_ROUNDS = 4
"""What was taken out may show something else that is wrong: a key in the place of a mapping."""

_BOUNDS = {
    "greater_than": ("gt", "is not more than"),
    "greater_than_equal": ("ge", "is less than"),
    "less_than": ("lt", "is not less than"),
    "less_than_equal": ("le", "is more than"),
}

_KINDS = {
    "string_type": "must be one text",
    "tuple_type": "must be a list, such as [a, b]",
    "dict_type": "must be keys with values",
    "model_type": "must be keys with values",
    "model_attributes_type": "must be keys with values",
    "too_short": "is empty",
    "missing": "is missing",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}

_FORMS = {
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is too large a number",
    "float_parsing": "is not a number",
    "finite_number": "is not a number",
    "bool_parsing": "is neither true nor false",
}


@dataclass(frozen=True)
class Loaded:
    """A configuration without mistakes.  `found` is what most likely is one; `warnings` are the lines of that."""

    name: str
    config: Config
    document: Document = field(repr=False)
    found: tuple[Problem, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(each.text(self.name) for each in self.found)

    def place(self, path: KeyPath) -> str:
        """Return where a value is, as messages have it: `FILE:12: nutanix.username`."""
        return Problem(path, "", self.document.mark(path)).text(self.name).removesuffix(": ")


def load(path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read a file of configuration; no other file is opened.

    Errors: OptionsError (the file cannot be read); ConfigError, with every mistake.
    """
    return parse(read_file(path), str(path), folder=path.absolute().parent, environment=environment)


def parse(
    content: bytes, name: str, *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Loaded:
    """Return what a file says.  `name` is what messages call it; relative paths in it begin at `folder`.

    Errors: ConfigError, with every mistake.
    """
    document = read_document(content, name, environment)
    config = _validated(document, folder)
    found = [] if config is None else check(config, document)
    errors = [*document.problems, *(each for each in found if not each.is_warning)]
    if errors or config is None:
        raise config_error(name, errors or [Problem((), "is no configuration")])
    return Loaded(name, config, document, tuple(in_order(found)))


def _validated(document: Document, folder: Path | None) -> Config | None:
    """Return the models of what is right; what is not becomes problems.  None if too little is left."""
    data: dict[str, Value] = copy.deepcopy(document.value)
    for path in sorted(document.broken, key=len, reverse=True):
        _take_out(data, path)
    for _ in range(_ROUNDS):
        try:
            return Config.model_validate(data, context={"folder": folder})
        except ValidationError as exc:
            for error in exc.errors(include_url=False):
                path = tuple(step for step in error["loc"] if step != "[key]")
                is_missing = error["type"] == "missing"
                if not (is_missing and path in document.broken):  # it was wrong, and is taken out: that is told
                    document.complain(path, _message(error, path))
                _take_out(data, path, is_missing=is_missing)
    return None


def _take_out(data: Any, path: KeyPath, *, is_missing: bool = False) -> None:
    """Remove what is wrong.  A job gives way to one without a mistake, as those behind it keep their numbers."""
    if path[:1] == ("jobs",) and (len(path) == 2 or (is_missing and len(path) == 3)):
        if _is_item(data.get("jobs"), path[1]):
            job = data["jobs"][path[1]]
            data["jobs"][path[1]] = {**(job if isinstance(job, dict) else {}), "name": f"job-{path[1]}"}
        return
    if is_missing:
        path = path[:-1]  # nothing is left of what it is missing in
    inner = data
    for depth, step in enumerate(path):
        if isinstance(inner, dict) and step in inner:
            if depth == len(path) - 1 or not isinstance(inner[step], dict | list):
                del inner[step]
                return
            if isinstance(inner[step], list) and path[: depth + 1] != ("jobs",):
                del inner[step]  # one of a list is wrong: the list is not what was meant
                return
            inner = inner[step]
        elif _is_item(inner, step):
            inner = inner[int(step)]
        else:
            return


def _is_item(found: object, step: str | int) -> bool:
    return isinstance(found, list) and isinstance(step, int) and step < len(found)


def _message(error: ErrorDetails, path: KeyPath) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "extra_forbidden":
        return _unknown(path)
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"{_shown(value)} is none of {', '.join(known)}{_if_near(value, known)}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{_shown(value)} {words} {context[name]:g}"
    if kind in _FORMS:
        return f"{_shown(value)} {_FORMS[kind]}"
    return _KINDS.get(kind, error["msg"])


def _shown(value: object) -> str:
    return f"{value[:80]!r}" if isinstance(value, str) else "it" if isinstance(value, dict | list) else str(value)


def _if_near(value: object, known: list[str]) -> str:
    found = nearest(value, known) if isinstance(value, str) else ""
    return found if found.startswith("; nearest") else ""


def _unknown(path: KeyPath) -> str:
    key, part = str(path[-1]), _part_at(path[:-1])
    homes = [name for name in ("nutanix", "backup", "performance", "tunnel", "agent") if key in _keys_of((name,))]
    if part is not None and homes and key not in _keys_of(path[:-1]):
        return f"unknown key; it belongs to {' or '.join(homes)}"
    return f"unknown key{nearest(key, [] if part is None else part.model_fields)}"


def _keys_of(path: KeyPath) -> set[str]:
    part = _part_at(path)
    return set() if part is None else set(part.model_fields)


def _part_at(path: KeyPath) -> type[Part] | None:
    """Return the model of what stands at a path; None if there is none."""
    found: type[Part] = Config
    steps = iter(path)
    for step in steps:
        field = found.model_fields.get(str(step))
        kind = None if field is None else field.annotation
        parts = [each for each in (kind, *typing.get_args(kind)) if _is_part(each)]
        if not parts:
            return None
        # A list or a mapping with names of its own has a number or a name first; `Part | None` has not.
        if typing.get_origin(kind) in (tuple, dict) and next(steps, None) is None:
            return None
        found = parts[0]
    return found


def _is_part(kind: object) -> TypeGuard[type[Part]]:
    return isinstance(kind, type) and issubclass(kind, Part)
