"""`ntx` that makes many checkpoints, and kills itself at the Nth step that makes something durable.

python -c "from tests.capture.dying import main; main()" STEPS capture ...
"""

from __future__ import annotations

import os
import sys

from ntxengine.cli.main import main as ntx
from ntxengine.dataplane import checkpoints, transfer
from ntxengine.files import durable
from tests.repository.killed_capture import Fuse

STEPS = ("write_file", "replace", "rename", "sync", "sync_folder", "make_folder", "remove_file", "remove_tree")


def main() -> None:
    fuse = Fuse(int(sys.argv.pop(1)))
    checkpoints.DUE_S, checkpoints._SELDOMER = 0.02, 0
    transfer.PROGRESS_INTERVAL_S = 0.01
    os.fdatasync = fuse.around(os.fdatasync)
    for name in STEPS:
        setattr(durable, name, fuse.around(getattr(durable, name)))
    sys.exit(ntx())
