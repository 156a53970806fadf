"""The C programs of the regression check, compiled as the engine is."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
COMPILER = os.environ.get("CC", "gcc")
LIBRARIES = ["-luring", "-lxxhash", "-lzstd", "-lssl", "-lcrypto", "-pthread"]
TIMEOUT_S = 120

CORE = sorted((ROOT / "csrc").glob("*.c"))
REFERENCE = [ROOT / "bench" / "reference" / "paths.c", HERE / "reference.c"]


def engine_flags() -> list[str]:
    """Return FLAGS of setup.py, which cannot be imported: it would build."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["FLAGS"]:
            flags: list[str] = ast.literal_eval(node.value)
            return flags
    raise LookupError("setup.py has no FLAGS")


def build(program: Path, sources: list[Path]) -> Path:
    """Compile and link `sources` into `program`."""
    run([COMPILER, *engine_flags(), f"-I{ROOT / 'csrc'}", *sources, *LIBRARIES, "-o", program])
    return program


def compiler_name() -> str:
    """Return the compiler and its major version, which decide how many instructions there are: `gcc-12`."""
    return f"{Path(COMPILER).name}-{run([COMPILER, '-dumpversion']).strip().split('.')[0]}"


def run(command: list[str | Path]) -> str:
    """Run a command to its end and return its standard output; its own words are the failure."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
