"""Programs that end when we do, however we end: the kernel kills them.

    we -- setpriv --pdeathsig KILL -- sh -c CHECK -- program ...

Were we dead before setpriv asked the kernel for that, nobody would end the program: so the shell, whose script is
constant, looks whether its parent is still us, and becomes the program.  It reads no part of any argument.
"""

from __future__ import annotations

import os

_CHECK = 'test "$PPID" = "$0" && exec "$@"'


def tied(*command: str) -> list[str]:
    """Return the argument vector that starts `command` so that it dies with us.

    LIMIT: the kernel ties it to the thread that starts it; that thread has to live as long as the program.
    """
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _CHECK, str(os.getpid()), *command]
