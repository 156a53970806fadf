"""What kinds of jobs the agent does, and the words for what they do; work.py is how."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of job: a run `makes` one, the VM is `done` then, and where it goes is a `place`."""

    name: str
    makes: str
    done: str
    place: str


CAPTURE = Kind("capture", makes="point", done="captured", place="repository")
REPLICATE = Kind("replicate", makes="generation", done="replicated", place="target")

KINDS = {kind.name: kind for kind in (CAPTURE, REPLICATE)}


def kind_named(name: str) -> Kind:
    """Return a kind by its name; of one that an agent of another version knew, the usual one."""
    return KINDS.get(name, CAPTURE)
