"""What the signals do to a coroutine that runs as a process: the first cancels, the second ends it at once."""

import signal
import subprocess
import sys

from tests.cli.ntx import environment

PROGRAM = """
import asyncio, sys
from ntxengine.cli.errors import exit_code_of
from ntxengine.cli.run import run

async def work():
    try:
        print("working", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cleaning up", flush=True)
        await asyncio.sleep(float(sys.argv[1]))
        print("clean", flush=True)

sys.exit(exit_code_of(lambda: run(work())))
"""


def start(clean_up_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(clean_up_s)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def test_clean_up_runs_to_its_end_after_the_first_signal() -> None:
    process = start(0.05)

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    assert out == "cleaning up\nclean\n"
    assert [line.partition(":")[0] for line in err.splitlines()] == ["ntx", "ntx"]


def test_second_signal_ends_the_process_at_once() -> None:
    process = start(60)
    assert process.stdout is not None

    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)

    assert process.returncode == -signal.SIGINT
    assert out == ""
