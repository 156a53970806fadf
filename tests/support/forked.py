"""Processes that begin with all that commands load: a fork of one that has it, instead of half a second of imports."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from multiprocessing.util import get_temp_dir

from ntxengine.cli.main import COMMANDS

# The server's socket lies here as long as the tests run: not in the folder of the test that is the first to want one.
get_temp_dir()


def fork_server() -> ForkServerContext:
    """Return what makes them."""
    context = multiprocessing.get_context("forkserver")
    # All of it for everybody: a process of tests has one server, and its first user's list is the one that holds.
    context.set_forkserver_preload(sorted({f"ntxengine.cli.{entry.module}" for entry in COMMANDS.values()}))
    return context
