"""Ways in which an answer may be other than we expect, and whole answers made from the SDKs' models."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]
Models = dict[str, dict[str, Any]]

_EXAMPLES: dict[str, Any] = {
    "str": "00000000-0000-4000-8000-00000000000a",
    "int": 7,
    "long": 7,
    "float": 0.5,
    "bool": True,
    "datetime": "2026-11-23T06:15:25.920305+00:00",
    "date": "2026-11-23",
    "object": {"any": 1},
}
_DEPTH = 7

ABSENT = object()

VALUES: dict[str, Any] = {
    "null": None,
    "absent": ABSENT,
    "text": "text",
    "odd_text": "a\nb\u202e\x00",
    "number": 3,
    "minus": -1,
    "huge": 2**70,
    "fraction": 0.5,
    "true": True,
    "false": False,
    "list": [],
    "list_of_null": [None],
    "map": {},
    "other_map": {"$objectType": "vmm.v4.ahv.config.Unheard", "extId": None},
    "zone": "2026-11-23T06:15:25.920305+00:00",
    "far": "9999-12-31T23:59:59.999999-23:59",
    "early": "0001-01-01T00:00:00+23:59",
    "no_time": "2026-13-45T99:00:00Z",
}
"""What stands in a place instead of what belongs there."""

Rewrite = Callable[[Any], Any]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield every place in a value."""
    if at:
        yield at
    children: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield from paths(inner, (*at, key))


def changed(value: Any, at: Path, new: Any) -> Any:
    """Return the value with something else in one place; the same if the place is no longer there."""
    result = copy.deepcopy(value)
    holder = result
    for key in at[:-1]:
        if not isinstance(holder, dict | list) or not _has(holder, key):
            return result
        holder = holder[key]  # type: ignore[index]
    if not isinstance(holder, dict | list) or not _has(holder, at[-1]):
        return result
    if new is ABSENT:
        del holder[at[-1]]  # type: ignore[arg-type]
    else:
        holder[at[-1]] = new  # type: ignore[index]
    return result


def _has(holder: Any, key: str | int) -> bool:
    if isinstance(holder, dict):
        return key in holder
    return isinstance(key, int) and key < len(holder)


def everywhere(rewrite: Rewrite) -> Rewrite:
    """Return what rewrites a value and all that is in it, inside first."""

    def all_of(value: Any) -> Any:
        if isinstance(value, dict):
            return rewrite({key: all_of(inner) for key, inner in value.items()})
        if isinstance(value, list):
            return rewrite([all_of(inner) for inner in value])
        return rewrite(value)

    return all_of


def _typed_first_only(value: Any) -> Any:
    """Only the first object of a list says its type: so Prism writes them."""
    if not isinstance(value, list):
        return value
    later = [without_type(item) for item in value[1:]]
    return [*value[:1], *later]


def without_type(value: Any) -> Any:
    """Return an object that does not say its type."""
    return {k: v for k, v in value.items() if k != "$objectType"} if isinstance(value, dict) else value


STYLES: dict[str, Rewrite] = {
    "types only on the first of a list": everywhere(_typed_first_only),
    "no types at all": everywhere(without_type),
    "a key that nobody knows everywhere": everywhere(
        lambda value: value | {"tomorrow": {"a": [None]}} if isinstance(value, dict) else value
    ),
    "empty lists are null": everywhere(lambda value: None if value == [] else value),
    "empty lists are absent": everywhere(
        lambda value: {k: v for k, v in value.items() if v != []} if isinstance(value, dict) else value
    ),
    "nulls for absent": everywhere(lambda value: value | {"links": None} if isinstance(value, dict) else value),
    "times with an offset": everywhere(
        lambda value: re.sub(r"Z$", "+00:00", value) if isinstance(value, str) and value[:2] == "20" else value
    ),
}
"""Other ways to write the same answer: what we make of it must be the same."""


def filled(value: Any, kind: str, models: Models, depth: int = 0) -> Any:
    """Return an answer in which every field that its model has is there: as it was, or as an example."""
    if depth > _DEPTH:
        return value
    if match := re.fullmatch(r"list\[(.*)\]", kind):
        items = value if isinstance(value, list) and value else [None]
        return [filled(item, match[1], models, depth + 1) for item in items]
    if kind.startswith("dict("):
        return value if value is not None else {"any": 1}
    if kind in _EXAMPLES:
        return _EXAMPLES[kind] if value is None else value
    model = models.get(kind, {})
    if "choices" in model:
        return value if value is not None else (model["choices"] or ["X"])[0]
    if "one_of" in model:
        return filled(value, _chosen(value, model["one_of"]), models, depth)
    fields = {
        name: filled((value or {}).get(name), inner, models, depth + 1)
        for name, inner in model.get("fields", {}).items()
        if depth < _DEPTH or (value or {}).get(name) is not None
    }
    return {"$objectType": kind, **(value or {}), **fields}


def _chosen(value: Any, kinds: list[str]) -> str:
    if isinstance(value, dict):
        return next((kind for kind in kinds if kind == value.get("$objectType")), kinds[0])
    if isinstance(value, list):
        return next((kind for kind in kinds if kind.startswith("list[")), kinds[0])
    return kinds[0]
