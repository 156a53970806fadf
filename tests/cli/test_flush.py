"""`ntx copy` to a server that takes its time to flush."""

import json
import signal
import subprocess

from tests.cli.ntx import COMMAND, environment, ntx
from tests.fakes.nbd import slow_to_flush


def test_a_flush_that_takes_longer_than_the_time_limit_is_waited_for() -> None:
    with slow_to_flush(4.0) as uri:
        ran = ntx("copy", "pattern:1M", uri, "--timeout", "2", "--progress", "json")

    assert ran.code == 0, ran.err
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert True in [line.get("flushing") for line in lines]
    assert lines[-1]["flushing"] is False
    assert "flushed" in ran.out


def test_a_flush_that_meets_its_limit_says_how_to_raise_it() -> None:
    with slow_to_flush(20.0) as uri:
        ran = ntx("copy", "pattern:1M", uri, "--flush-timeout", "1", "--retry-for", "0")

    assert ran.code == 75
    assert "flush failed: no answer within 1 s" in ran.err
    assert "--flush-timeout" in ran.err


def test_an_interrupt_while_the_target_flushes_ends_at_once() -> None:
    with slow_to_flush(600.0) as uri:
        process = subprocess.Popen(
            [*COMMAND, "copy", "pattern:1M", uri, "--progress", "json"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        while not json.loads(process.stderr.readline()).get("flushing"):
            pass

        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
