"""The reference program, bench/reference/paths.c, built where its source is at hand."""

from __future__ import annotations

from pathlib import Path

from ntxengine.bench import tools
from ntxengine.bench.machine import CHECKOUT
from ntxengine.errors import ToolError

_FLAGS = ("-std=gnu11", "-O3")


def build_limit(folder: Path) -> tuple[Path | None, str | None]:
    """Compile the program into `folder`.  Return its path, or None and why it cannot be had."""
    source, core = CHECKOUT / "bench" / "reference" / "paths.c", CHECKOUT / "csrc"
    if not source.exists():
        return None, "bench/reference/paths.c is not at hand: run it from a checkout of the repository"
    missing = tools.why_missing("gcc")
    if missing is not None:
        return None, missing
    program = folder / "paths"
    files = [str(source), str(core / "digest.c"), str(core / "zero.c")]
    try:
        tools.run_tool("gcc", *_FLAGS, f"-I{core}", "-o", str(program), *files, "-lxxhash", "-pthread")
    except ToolError as exc:
        return None, f"bench/reference/paths.c cannot be built: {exc}"
    return program, None
