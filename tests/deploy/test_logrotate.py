"""The log of an agent whose stderr is a file, rotated by the real logrotate: none of it is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cli.ntx import environment
from tests.support.booted import ROOT
from tests.support.servers import require

SNIPPET = ROOT / "docs/logrotate/ntx-agent"

WRITER = """
import sys
sys.stderr.write("before\\n"); sys.stderr.flush()
for line in sys.stdin:
    sys.stderr.write(line); sys.stderr.flush()
    print("written", flush=True)
"""


def rotate(folder: Path) -> None:
    require("logrotate")
    text = SNIPPET.read_text().replace("/var/log/ntx/", f"{folder}/").replace("    su ntx ntx\n", "")
    assert str(folder) in text
    config = folder / "logrotate.conf"
    config.write_text(text)
    config.chmod(0o644)
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    subprocess.run([program, "--force", "--state", folder / "state", config], check=True)  # type: ignore[list-item]


def test_what_is_written_after_a_rotation_is_in_the_new_log_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    with open(log, "ab") as stderr:  # as 2>> does
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(),
        )
    assert writer.stdin is not None
    assert writer.stdout is not None
    for text in ("one", "two"):
        writer.stdin.write(f"{text}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "written\n"
        rotate(tmp_path)
    writer.stdin.write("three\n")
    writer.stdin.close()
    writer.wait()
    writer.stdout.close()

    assert log.read_text() == "three\n"
    assert (tmp_path / "agent.log.1").read_text() == "two\n"
    older = subprocess.run(["zcat", tmp_path / "agent.log.2.gz"], capture_output=True, text=True, check=True).stdout
    assert older == "before\none\n"


def test_the_snippet_is_what_the_document_says() -> None:
    document = (ROOT / "docs/deploy.md").read_text()

    assert "copytruncate" in SNIPPET.read_text()
    assert re.search(r"2>> /var/log/ntx/agent\.log", document)
