"""How long does `ntx` take to start, for a copy of nothing and for --help, and what of it is Python and numpy?

    python bench/scale/start.py [--rounds 15] [--save NAME]

The least of some rounds, taken in turns, in wall and CPU seconds of a whole process; nothing else is as steady on a
machine that does other things too.  nbdinfo stands for what a C tool takes, if it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measure import parser, report

NTX = str(Path(sys.executable).parent / "ntx")
COMMANDS: dict[str, list[str]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import asyncio": [sys.executable, "-c", "import asyncio"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "import numpy, one thread": ["env", "OPENBLAS_NUM_THREADS=1", sys.executable, "-c", "import numpy"],
    "ntx --help": [NTX, "--help"],
    "ntx copy pattern:64K null:": [NTX, "copy", "pattern:64K", "null:", "--json", "--progress", "none"],
}
if shutil.which("nbdinfo"):
    COMMANDS["nbdinfo --version"] = ["nbdinfo", "--version"]


def once(command: list[str]) -> tuple[float, float]:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = code
    assert code == 0, command
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()
    rounds = [{name: once(command) for name, command in COMMANDS.items()} for _ in range(given.rounds)]
    figures = {
        name: {
            "wall_s": round(min(taken[name][0] for taken in rounds), 4),
            "cpu_s": round(min(taken[name][1] for taken in rounds), 4),
        }
        for name in COMMANDS
    }
    report(__doc__, given.save, figures)


if __name__ == "__main__":
    main()
