"""What all measurements of bench/scale share: clocks, peaks of a process, and the record that is printed and kept."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the scripts of this folder borrow the servers of the tests
RESULTS = ROOT / "bench" / "results"
KIB = 1024
LOAD_BEFORE = os.getloadavg()[0]


@dataclass
class Spent:
    """Seconds that something took."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def as_dict(self) -> dict[str, float]:
        return {"wall_s": round(self.wall_s, 4), "cpu_s": round(self.cpu_s, 4)}


@contextmanager
def spending(spent: Spent | None = None) -> Iterator[Spent]:
    """Add what the block takes, in this process, all threads."""
    spent = spent or Spent()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    try:
        yield spent
    finally:
        spent.wall_s += time.perf_counter() - wall_s
        spent.cpu_s += time.process_time() - cpu_s


def peak_bytes() -> int:
    """Return the peak resident memory of this process.  Not ru_maxrss, which a child inherits."""
    return status("VmHWM") * KIB


def status(name: str) -> int:
    """Return a number of /proc/self/status."""
    found = re.search(rf"^{name}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, name
    return int(found[1])


def run_ntx(*arguments: str) -> tuple[Any, Spent, int]:
    """Run `ntx` in a process of its own; return its JSON, what it spent, and its peak memory."""
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom ntxengine.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code, end.code\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    spent = Spent(time.perf_counter() - began)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    *lines, peak = done.stdout.decode().splitlines()
    return json.loads("\n".join(lines)), spent, int(peak) * KIB


def in_child(script: str, *arguments: str) -> Any:
    """Run a script of this folder in a process of its own, so that its peak is its own; return the JSON it prints."""
    done = subprocess.run([sys.executable, script, *arguments], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a script: its docstring, and --save."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--save", metavar="NAME", help="also write the record to bench/results/NAME.json")
    return made


def report(doc: str | None, save: str | None, figures: dict[str, Any]) -> None:
    """Print the record of one measurement: the question, the figures, and what they were taken on."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    record = {
        "question": (doc or "").splitlines()[0],
        "figures": figures,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "load_before": LOAD_BEFORE,
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "commit": commit + ("+changes" if _output("git", "-C", str(ROOT), "status", "--porcelain", "-uno") else ""),
        "command": " ".join(["python", *(os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:])]),
        "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    text = json.dumps(record, indent=2)
    sys.stdout.write(text + "\n")
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{save}.json").write_text(text + "\n")


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
