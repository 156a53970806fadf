"""What is tied to a process ends with it, also where that was killed before it could be tied."""

from __future__ import annotations

import signal
import subprocess
import sys

from ntxengine.concurrency.tied import tied
from tests.support.servers import require

STARTS = """import subprocess, sys
from ntxengine.concurrency.tied import tied
program = subprocess.Popen(tied("sleep", "600"), stdout=sys.stdout)
print(program.pid, flush=True)
input()
"""


def test_a_program_ends_with_the_process_that_started_it() -> None:
    require("setpriv")
    starter = subprocess.Popen([sys.executable, "-c", STARTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert int(starter.stdout.readline()) > 0

    starter.send_signal(signal.SIGKILL)
    starter.wait()

    assert starter.stdout.read() == ""  # it ends once nobody holds it any more
    starter.communicate()


def test_a_program_whose_parent_is_gone_already_is_not_started() -> None:
    command = tied("echo", "started")
    command[command.index("sh") + 3] = "1"  # as if the one who wanted it had died, and somebody else were its parent

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
