"""`ntx`, and `python -m ntxengine`: what runs before anything else is loaded.

Until everything is, Ctrl-C ends the process as the system does it: Python's way would be a traceback out of whatever
module is being loaded.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line and exit."""
    # Ignored means: by whoever started us, and that stays so.
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ntxengine.cli.main import main as run

    if is_heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
