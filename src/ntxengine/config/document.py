"""YAML, as far as a configuration needs it: texts, lists and mappings, each with its place in the file.

    bytes --limits--> text --PyYAML--> events --_Reader--> Document

A value is the text that stands there; the key decides what it means.  So `off`, `22:00` and `007` are never a truth
value, a number of base 60 or an octal one, as YAML 1.1 has them.  Left out are tags, merge keys and several documents;
aliases are counted as what they stand for.  Every mistake is collected; only what is no YAML ends the reading.

`${NAME}` in a value is what the environment has under that name, `$$` is a `$`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ntxengine.config.problems import ConfigError, KeyPath, Mark, Problem, config_error, nearest, shown
from ntxengine.errors import OptionsError

MAX_FILE_SIZE = 1024**2
MAX_NODES = 50_000
"""Values and keys, those that an alias stands for each time: a thousand jobs have about twenty thousand."""

MAX_DEPTH = 16
_MOST_OPEN = 4 * MAX_DEPTH
"""Levels at which reading ends at once: each costs PyYAML more than the one before, minutes for a file of brackets."""

MAX_ALIASES = 1_000
MAX_TEXT = 64 * 1024

Value = str | None | list["Value"] | dict[str, "Value"]

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^}]*)(?P<end>\}?))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\ud800-\udfff]")
_TAB = re.compile(r"^[ ]*\t[ \t]*(?=[^\s#])", re.MULTILINE)


@dataclass
class Document:
    """What a file says.

    `places`: where each key, or item of a list, begins.  `raw`: the texts that have variables, as they stand there.
    `variables`: what those variables hold, by path: no message may repeat it.  `problems`: what is wrong so far; a
    value that is wrong is not in `value`.
    """

    name: str
    value: dict[str, Value] = field(default_factory=dict, repr=False)
    places: dict[KeyPath, Mark] = field(default_factory=dict)
    raw: dict[KeyPath, str] = field(default_factory=dict)
    variables: dict[KeyPath, dict[str, str]] = field(default_factory=dict, repr=False)
    problems: list[Problem] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)

    def mark(self, path: KeyPath) -> Mark:
        """Return where a path is, or what it is in, if it is not there itself."""
        for length in range(len(path), 0, -1):
            if found := self.places.get(path[:length]):
                return found
        return Mark()

    def hidden(self, path: KeyPath, text: str) -> str:
        """Return a message about a path without what variables hold: a password may have got to where it should not."""
        for name, value in self.variables.get(path, {}).items():
            for form in (repr(value)[1:-1], value):
                text = text.replace(form, f"${{{name}}}") if form else text
        return text

    def complain(self, path: KeyPath, message: str, *, mark: Mark | None = None) -> None:
        """Note a mistake; whatever is there is not used."""
        self.problems.append(Problem(path, self.hidden(path, message), mark or self.mark(path)))
        self.broken.add(path)


def read_file(path: Path) -> bytes:
    """Return the content of a file of configuration.  Errors: OptionsError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except OSError as exc:
        raise OptionsError(f"{shown(str(path))}: {exc.strerror}") from exc
    except ValueError as exc:  # a zero byte in the name
        raise OptionsError(f"{shown(str(path))}: {exc}") from exc
    return content


def read_document(content: bytes, name: str, environment: Mapping[str, str] | None = None) -> Document:
    """Return what a file says; its mistakes are in the document.

    Errors: ConfigError, if it is no YAML, or too much of it.
    """
    document = Document(name)
    text = _text(content, name)
    try:
        _Reader(document, _events(text, name), os.environ if environment is None else environment).read()
    except yaml.MarkedYAMLError as exc:
        raise config_error(name, [*document.problems, _yaml_problem(exc)]) from exc
    except yaml.reader.ReaderError as exc:
        mark = Mark(text.count("\n", 0, exc.position) + 1, 1)
        raise config_error(name, [Problem((), f"a character that YAML does not have: {exc.reason}", mark)]) from exc
    except (ValueError, OverflowError) as exc:  # numbers in escapes and directives that PyYAML takes as they are
        raise config_error(name, [Problem((), f"no YAML: {exc}", Mark(1, 1))]) from exc
    return document


def _text(content: bytes, name: str) -> str:
    if len(content) > MAX_FILE_SIZE:
        raise config_error(name, [Problem((), f"more than {MAX_FILE_SIZE} bytes are no configuration", Mark(1, 1))])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        mark = Mark(content.count(b"\n", 0, exc.start) + 1, 1)
        raise config_error(name, [Problem((), "is not UTF-8", mark)]) from exc
    tabs = [
        Problem((), "a tab in the indentation: write spaces", Mark(text.count("\n", 0, each.start()) + 1, 1))
        for each in itertools.islice(_TAB.finditer(text), 20)
    ]
    if tabs:
        raise config_error(name, tabs)
    return text


def _events(text: str, name: str) -> list[yaml.Event]:
    most = 2 * MAX_NODES + 4  # a list or a mapping has a beginning and an end
    events: list[yaml.Event] = []
    depth = 0
    for event in itertools.islice(yaml.parse(text, Loader=yaml.SafeLoader), most):
        events.append(event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_OPEN:
            raise _too_much(Document(name), (), f"{MAX_DEPTH} levels", event)
    if len(events) == most:
        raise _too_much(Document(name), (), f"{MAX_NODES} values", events[-1])
    return events


def _too_much(document: Document, path: KeyPath, what: str, event: yaml.Event) -> ConfigError:
    problem = Problem(path, f"more than {what} are no configuration", _mark(event))
    return config_error(document.name, [*document.problems, problem])


class _Reader:
    """From events to a document.  `at` is the event that is next; an alias leads back to where its anchor is."""

    def __init__(self, document: Document, events: list[yaml.Event], environment: Mapping[str, str]) -> None:
        self._document = document
        self._events = events
        self._environment = environment
        self._anchors: dict[str, int] = {}
        self._nodes = 0
        self._aliases = 0
        self._at = 0

    def read(self) -> None:
        events = [each for each in self._events if isinstance(each, yaml.DocumentStartEvent)]
        if len(events) > 1:
            self._document.complain((), "a second document begins: a configuration is one", mark=_mark(events[1]))
        if not events:
            return
        self._at = next(i for i, each in enumerate(self._events) if isinstance(each, yaml.DocumentStartEvent)) + 1
        begin = _mark(self._events[self._at])
        value = self._node((), 0)
        if isinstance(value, dict):
            self._document.value = value
        elif value is not None:
            self._document.complain((), "must be keys with values, such as `nutanix:`", mark=begin)

    def _node(self, path: KeyPath, depth: int) -> Value:
        """Read one node; leave `_at` behind it."""
        event = self._events[self._at]
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _too_much(self._document, path, f"{MAX_NODES} values", event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, depth)
        assert isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH:
            raise _too_much(self._document, path, f"{MAX_DEPTH} levels", event)
        begin = self._at
        if (tag := getattr(event, "tag", None)) is not None:
            self._document.complain(path, f"the tag {tag!r}: tags have no meaning here", mark=_mark(event))
        value: Value
        if isinstance(event, yaml.ScalarEvent):
            self._at += 1
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(path, depth)
        else:
            value = self._mapping(path, depth)
        if event.anchor:
            self._anchors[event.anchor] = begin  # only now: a node that holds itself has no end
        return value

    def _alias(self, event: yaml.AliasEvent, path: KeyPath, depth: int) -> Value:
        begin = self._anchors.get(event.anchor or "")
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise _too_much(self._document, path, f"{MAX_ALIASES} aliases", event)
        behind = self._at + 1
        if begin is None:
            self._document.complain(path, f"*{event.anchor}: there is no such anchor before it", mark=_mark(event))
            self._at = behind
            return None
        self._at = begin
        value = self._node(path, depth + 1)
        self._at = behind
        return value

    def _list(self, path: KeyPath, depth: int) -> list[Value]:
        self._at += 1
        found: list[Value] = []
        while not isinstance(self._events[self._at], yaml.SequenceEndEvent):
            inner = (*path, len(found))
            self._document.places[inner] = _mark(self._events[self._at])
            found.append(self._node(inner, depth + 1))
        self._at += 1
        return found

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Value]:
        self._at += 1
        found: dict[str, Value] = {}
        while not isinstance(self._events[self._at], yaml.MappingEndEvent):
            event = self._events[self._at]
            mark = _mark(event)
            if not isinstance(event, yaml.ScalarEvent):
                self._document.complain(path, "a key must be one word", mark=mark)
                self._skip(path, depth)
                self._skip(path, depth)
                continue
            key = event.value
            self._at += 1
            inner = (*path, key)
            self._nodes += 1
            if problem := _not_a_text(key):
                self._document.complain(path, f"a key {problem}", mark=mark)
                self._skip(path, depth)
            elif key in found:
                first = self._document.places[inner].line
                self._document.problems.append(Problem(inner, f"is there already, in line {first}", mark))
                self._skip(path, depth)
            else:
                self._document.places[inner] = mark
                found[key] = self._node(inner, depth + 1)
        self._at += 1
        return found

    def _skip(self, path: KeyPath, depth: int) -> None:
        """Pass over a node, and note no mistakes of it."""
        document, self._document = self._document, Document(self._document.name)
        try:
            self._node(path, depth + 1)
        finally:
            self._document = document

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> str | None:
        text: str = event.value
        if event.implicit[0] and text in _NOTHING:
            return None
        if problem := _not_a_text(text):
            self._document.complain(path, problem, mark=_mark(event))
            return None
        if "$" not in text:
            return text
        return self._with_variables(text, path)

    def _with_variables(self, text: str, path: KeyPath) -> str | None:
        used: dict[str, str] = {}
        problems: list[str] = []

        def put(match: re.Match[str]) -> str:
            if match["dollar"]:
                return "$"
            name = match["name"]
            if not match["end"] or not _NAME.fullmatch(name):
                problems.append(f"{match[0][:40]!r} is no variable: write ${{NAME}}, or $$ for a dollar sign")
            elif name not in self._environment:
                problems.append(f"${{{name}}}: the variable {name} is not set{self._similar(name)}")
            else:
                used[name] = self._environment[name]
            return used.get(name, "")

        value = _VARIABLE.sub(put, text)
        if used:
            self._document.raw[path] = text
            self._document.variables[path] = used
            if not problems and (problem := _not_a_text(value)):
                problems.append(f"what {' and '.join(used)} hold {problem}")
        for problem in problems:
            self._document.complain(path, problem)
        return None if problems else value

    def _similar(self, name: str) -> str:
        """Name a variable that is set and was most likely meant."""
        similar = nearest(name, [each.lower() for each in self._environment if _NAME.fullmatch(each)])
        return similar.upper().replace("NEAREST", "nearest") if similar.startswith("; nearest") else ""


def _not_a_text(text: str) -> str:
    """Return what is wrong with a text, "" for nothing."""
    if len(text) > MAX_TEXT:
        return f"has more than {MAX_TEXT} letters"
    return "has a character that cannot be shown" if _CONTROL.search(text) else ""


def _mark(event: yaml.Event) -> Mark:
    mark = event.start_mark
    return Mark() if mark is None else Mark(mark.line + 1, mark.column + 1)


def _yaml_problem(exc: yaml.MarkedYAMLError) -> Problem:
    mark = exc.problem_mark or exc.context_mark
    context = f" ({exc.context})" if exc.context else ""
    text = f"no YAML: {exc.problem or exc.context}{context if exc.problem else ''}"
    return Problem((), text, Mark() if mark is None else Mark(mark.line + 1, mark.column + 1))
