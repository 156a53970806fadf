"""A certificate for servers of this machine, made on the spot: what TLS costs does not depend on who signed it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ntxengine.bench import tools


def certificates(folder: Path) -> Path:
    """Return a folder with what nbdkit and nbdcopy look for: ca-cert.pem, server-cert.pem and server-key.pem.

    The server's certificate is signed by itself, and is also the CA.
    """
    made = folder / "certificates"
    if made.exists():
        return made
    made.mkdir(mode=0o700)
    tools.run_tool(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(made / "server-key.pem"), "-out", str(made / "server-cert.pem"),
    )  # fmt: skip
    shutil.copyfile(made / "server-cert.pem", made / "ca-cert.pem")
    return made
