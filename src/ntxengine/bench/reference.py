"""The reference programs in bench/reference, built where their source is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ntxengine.bench import tools
from ntxengine.bench.machine import CHECKOUT
from ntxengine.errors import ToolError

_FLAGS = ("-std=gnu11", "-O3")


@dataclass(frozen=True)
class Built:
    """A program, or why it cannot be had."""

    program: Path | None = None
    why_not: str | None = None


NOT_BUILT = Built()
"""Nobody asked for it."""


def build_limit(folder: Path) -> Built:
    """Compile paths.c into `folder`."""
    core = CHECKOUT / "csrc"
    return _build(folder, "paths", str(core / "digest.c"), str(core / "zero.c"), "-lxxhash")


def build_drop(folder: Path) -> Built:
    """Compile drop.c into `folder`."""
    return _build(folder, "drop", "-lssl", "-lcrypto")


def _build(folder: Path, name: str, *arguments: str) -> Built:
    shown = f"bench/reference/{name}.c"
    if not (CHECKOUT / shown).exists():
        return Built(why_not=f"{shown} is not at hand: run it from a checkout of the repository")
    missing = tools.why_missing("gcc")
    if missing is not None:
        return Built(why_not=missing)
    program, source = folder / name, str(CHECKOUT / shown)
    try:
        tools.run_tool("gcc", *_FLAGS, f"-I{CHECKOUT / 'csrc'}", "-o", str(program), source, *arguments, "-pthread")
    except ToolError as exc:
        return Built(why_not=f"{shown} cannot be built: {exc}")
    return Built(program)
