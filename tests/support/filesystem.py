"""A file system that lacks something: filesystem.c, compiled once, loaded into what is run."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def _library() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory(prefix="ntx-test-")  # removed when the process ends
    library = Path(folder.name) / "filesystem.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", library], check=True)
    return folder, library


def lacking(folder: Path, calls: Mapping[str, int]) -> dict[str, str]:
    """Return the environment in which these calls (see filesystem.c), on files below `folder`, fail with an errno."""
    plan = " ".join([os.path.realpath(folder), *(f"{call}={code}" for call, code in calls.items())])
    return {"LD_PRELOAD": str(_library()[1]), "FS_LACKS": f"{plan} "}
