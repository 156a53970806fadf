"""`ntx`: the table of commands, and the way in.

Nothing heavy is imported here: `ntx --help` reads the table below, and the module of a command is loaded when that
command is asked for.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from ntxengine import __version__
from ntxengine.cli.errors import exit_code_of
from ntxengine.cli.lazy import Entry, LazyGroup
from ntxengine.cli.messages import messages
from ntxengine.cli.paths import FILE
from ntxengine.cli.reply import reply
from ntxengine.cli.streams import end_stderr, end_stdout, only_tells_of_work, take_over, write_result
from ntxengine.errors import NtxError

SECTIONS: dict[str, dict[str, Entry]] = {
    "The cluster and the repository": {
        "vms": Entry("cluster", "List the VMs of a cluster."),
        "probe": Entry("probe", "Look at all that a capture needs, before anything is frozen."),
        "capture": Entry("capture", "Capture a VM: in full the first time, then what changed."),
        "export": Entry("export", "Let a control plane read the disks of a VM, and what changed."),
        "replicate": Entry("replicate", "Keep a replica of a VM on another platform."),
        "replicas": Entry("replicas", "Say how far replicas are behind."),
        "cutover": Entry("cutover", "Cut over to a replica, or try it with an isolated copy."),
        "points": Entry("points", "List the points that a repository holds."),
        "verify": Entry("verify", "Read points back and compare them with their digests."),
        "diff": Entry("diff", "Show what became of the disks of a VM between two points."),
        "restore": Entry("restore", "Write the disks of a point as raw or QCOW2 images."),
        "forget": Entry("forget", "Forget points that no rule keeps, or that are named."),
        "tag": Entry("tag", "Give a point tags that rules can keep it by."),
        "hold": Entry("tag", "Hold a point, which nothing forgets or removes then."),
        "prune": Entry("prune", "Give back the space of points that are forgotten."),
        "sync": Entry("sync", "Write the points that another repository lacks into it."),
        "repository": Entry("repository", "Take care of a repository: adopt a copy."),
        "stats": Entry("stats", "Show what VMs and points take, and for how long there is room."),
        "check": Entry("check", "Look for what is missing, damaged or left behind in a repository."),
        "repair": Entry("repair", "Mend what can be mended safely in a repository."),
        "sweep": Entry("sweep", "Remove what a killed capture left behind."),
    },
    "The data plane alone": {
        "copy": Entry("copy", "Copy a file, a device or an NBD export to another."),
        "map": Entry("device", "Show which extents of a source hold data."),
        "checksum": Entry("device", "Print the digest of a source."),
        "info": Entry("device", "Show what a file, a device or an NBD server is and can."),
    },
    "By itself": {
        "agent": Entry("agent", "Capture the VMs of jobs when they are due; tell such an agent what to do."),
        "status": Entry("status", "Show how the agent is, for people and for monitoring."),
        "runs": Entry("runs", "List what became of the runs of the agent."),
        "history": Entry("history", "Show what the runs of each VM were like over time."),
        "top": Entry("top", "Watch the agent at work."),
    },
    "Trying it out": {
        "sim": Entry("sim", "Serve a simulated cluster on real disk files."),
        "demo": Entry("demo", "Run the whole workflow against the simulator."),
        "bench": Entry("bench", "Measure copying on this machine, beside nbdcopy and qemu-img."),
        "config": Entry("config", "Check, show and begin the file of configuration."),
        "completion": Entry("completion", "Print the completion script of a shell."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


TAKE_NO_DEFAULTS = frozenset({None, "agent", "status", "runs", "history", "top", "config", "completion", "demo", "sim"})
"""Commands that need no file of configuration: a bad one is nothing to them."""


class Overview(LazyGroup):
    """All commands, by section."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as exc:
            # A connection of the work: click takes each for a reader of stdout that went away, and says nothing.
            raise NtxError(f"a connection was closed by its other end: {exc}") from exc

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            self._section(formatter, title, section)


@click.group(
    cls=Overview,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ntx", message="%(prog)s %(version)s")
@click.option(
    "--config",
    "config_file",
    type=FILE,
    envvar="NTX_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="File of configuration: what it says are the defaults of options (ntx config).",
)
@click.option(
    "--profile", envvar="NTX_PROFILE", show_envvar=True, metavar="NAME", help="Which of its profiles is to hold."
)
@click.pass_context
def ntx(ctx: click.Context, config_file: Path | None, profile: str | None) -> None:
    """Capture VMs that run on Nutanix AHV: verified full and incremental copies of their disks, as plain QCOW2.

    Results go to stdout, progress and logs to stderr; --json prints one object instead of a table.  Sizes are written
    as 64KiB, 500M or 1.5G (powers of 1024), rates as 500M (per second).

    \b
    Examples:
      ntx demo                                   see all of it at work, without a cluster
      ntx capture db01 --to /backups             capture the VM db01
      ntx copy disk.raw nbd://server/export      copy a disk, and nothing else

    Environment: an NTX_* variable sets the option that it is named after; an option wins over it, and it over
    --config.  NTX_API, NTX_API_KEY (has no option), NTX_API_KEY_FILE, NTX_AUTH, NTX_BANDWIDTH, NTX_CA_FILE,
    NTX_CONFIG, NTX_CONTAINERS, NTX_CPU_LIMIT, NTX_DATA_SERVICES, NTX_DEBUG, NTX_DEVICE_DIR, NTX_ELEMENT,
    NTX_ELEMENT_CA_FILE, NTX_ELEMENT_FINGERPRINT, NTX_ELEMENT_INSECURE, NTX_ELEMENT_NAME,
    NTX_ELEMENT_PASSWORD (has no option), NTX_ELEMENT_PASSWORD_FILE, NTX_ELEMENT_USERNAME, NTX_FINGERPRINT,
    NTX_INSECURE, NTX_MEMORY_LIMIT, NTX_NFS_SERVER, NTX_PASSWORD (has no option), NTX_PASSWORD_FILE, NTX_PRISM,
    NTX_PRISM_TIMEOUT, NTX_PROFILE, NTX_PROGRESS, NTX_PROJECT, NTX_REPLICA_STATE, NTX_REPOSITORY, NTX_SIM_PORT,
    NTX_SOCKET, NTX_SOURCE,
    NTX_SSH_JUMP, NTX_SSH_KEY, NTX_SSH_KNOWN_HOSTS, NTX_TIER, NTX_TIME_ZONE, NTX_TLS_CA, NTX_TLS_CERT,
    NTX_TLS_HOSTNAME, NTX_TLS_KEY, NTX_TLS_PSK, NTX_TRUST_FILE, NTX_TRUST_ON_FIRST_USE, NTX_TUNNEL, NTX_USERNAME,
    NTX_WORKER.

    Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 some items failed, 10 not found, 11 locked, 12 credentials
    refused, 75 try again later, 129 hung up, 130 interrupted, 143 terminated.
    """
    if config_file is not None:
        if ctx.invoked_subcommand not in TAKE_NO_DEFAULTS:
            from ntxengine.cli.defaults import use

            use(ctx, str(config_file), profile)
    elif ctx.get_parameter_source("profile") is ParameterSource.COMMANDLINE and ctx.invoked_subcommand != "config":
        raise click.UsageError("--profile is one of a configuration: give --config FILE, too")


def main(argv: Sequence[str] | None = None) -> None:
    """Run `ntx` with `argv` (the process's own arguments if None) and exit."""
    take_over()
    # Before numpy is loaded, which starts a thread per core for linear algebra that nothing here does.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    _listen(arguments)
    code = exit_code_of(lambda: _run(arguments))
    only_tells_of_work()  # the code is known
    reply.write()
    if problem := end_stdout():
        messages.say("warning", f"ntx: {problem}; the work is done" if code == 0 else f"ntx: {problem}")
    end_stderr()
    sys.exit(code)


def _listen(arguments: list[str]) -> None:
    """Find out whether programs read what we say, before the arguments are understood: they may be wrong."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    reply.is_wanted = "--json" in options
    said = re.findall(r"--progress[ =](\w+)", " ".join(options)) or [os.environ.get("NTX_PROGRESS", "")]
    messages.as_json = said[-1] == "json"


def _run(arguments: list[str]) -> object:
    result = ntx.main(arguments, prog_name="ntx", standalone_mode=False)
    reply.write()
    write_result()
    return result


if __name__ == "__main__":
    main()
