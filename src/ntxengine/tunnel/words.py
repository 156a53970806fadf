"""What ssh says, as an error: which code it is like, so that it is known what is worth another try; and a remedy.

What the server says stands among it (a banner): so it is only ever a reason to fail in one way or another.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from ntxengine.tunnel.options import FarEnd, SshLogin, SshOptions

_DETAIL = re.compile(r"debug\d: |OpenSSH_|Authenticated to |Transferred: |Bytes per second: ")
"""What ssh says with -v, and is no complaint."""
LIMIT = 8192  # bytes of what ssh says that are kept, from the end
_MESSAGE_LIMIT = 400  # characters of ssh's own words in a message of ours

_FINAL, _LOST = errno.EACCES, errno.ECONNRESET

# The first that is found counts.
_CAUSES: tuple[tuple[str, int, str], ...] = (
    (
        r"(?=.*UNKNOWN port).*stdio forwarding failed",  # by the ssh of the jump host, not by the one of a port
        errno.EHOSTUNREACH,
        "the jump host {jump} does not reach {to}: is that there, and does PermitOpen allow it?",
    ),
    (
        r"HOST IDENTIFICATION HAS CHANGED",
        _FINAL,
        "its host key is another than in {known_hosts}: somebody may be in between. If it was installed anew, compare "
        "the new key on its console, then remove the old one: ssh-keygen -f {known_hosts} -R '{entry}'",
    ),
    (
        r"No \S+ host key is known for",
        _FINAL,
        "its host key is not in {known_hosts}: look at it on its console (ssh-keygen -lf "
        "/etc/ssh/ssh_host_ed25519_key.pub), compare with ssh-keyscan -p {port} {host} | ssh-keygen -lf -, and add "
        "what ssh-keyscan prints",
    ),
    (r"UNPROTECTED PRIVATE KEY", _FINAL, "a private key can be read by others, so ssh does not use it: chmod 600 it"),
    (r"Load key .*: (?:invalid format|error in)", _FINAL, "{key} is no private key that ssh can read"),
    (
        r"Permission denied",
        _FINAL,
        "the login was refused: is the public part of {key} in authorized_keys there? A key with a passphrase needs "
        "ssh-agent",
    ),
    (
        r"remote port forwarding failed for listen path",
        errno.EADDRINUSE,
        "the ssh server does not make the socket {far} there: its folder must be there and the user's, nothing at that "
        "path unless StreamLocalBindUnlink is yes, AllowTcpForwarding and AllowStreamLocalForwarding yes or remote",
    ),
    (
        r"open failed: administratively prohibited",
        errno.EPERM,
        "the ssh server does not forward to {far}: see PermitOpen, AllowTcpForwarding and AllowStreamLocalForwarding "
        "there, and permitopen= and restrict in authorized_keys",
    ),
    (
        r"open failed: ",
        errno.ECONNREFUSED,
        "nothing answers at {far} there: start the NBD server, or say where it is (?port=, ?socket=)",
    ),
    (r"Could not resolve hostname", errno.EHOSTUNREACH, "the name of the host means nothing here"),
    (r"Connection refused", errno.ECONNREFUSED, "no ssh server listens at {host} port {port}"),
    (
        r"No route to host|Network is unreachable",
        errno.EHOSTUNREACH,
        "there is no route to {host}: is a firewall or a VPN between?",
    ),
    (
        r"timed out|Timeout, server",
        errno.ETIMEDOUT,
        "no answer from {host} port {port}: is a firewall between, or the host overloaded?",
    ),
    (r"no matching", errno.EPROTO, "the two sides agree on no way to speak"),
    (
        r"Connection (?:closed|reset)|closed by remote host|Broken pipe",
        _LOST,
        "the ssh server closed the connection; MaxStartups there bounds how many log in at once",
    ),
)


@dataclass(frozen=True)
class Complaint:
    """Why a tunnel does not do: a code of errno, and a line."""

    code: int
    text: str


@dataclass(frozen=True)
class Route:
    """One way: who logs in where, to reach what.  `label` is what messages call it."""

    label: str
    login: SshLogin
    far: FarEnd


def explain(output: bytes, status: int | None, route: Route, options: SshOptions) -> Complaint:
    """Return what it means that ssh said `output`; `status` is what it ended with, None if it runs."""
    lines = _lines(output)
    words = "; ".join(lines)
    shown = words if len(words) <= _MESSAGE_LIMIT else "..." + words[3 - _MESSAGE_LIMIT :]
    # What ssh calls the other side of a jump host's ssh: that one failed, and what stands before is its own complaint.
    login = options.jump if options.jump and "UNKNOWN port" in words else route.login
    names = {
        "host": login.host,
        "port": login.port,
        "entry": login.in_known_hosts,
        "far": route.far,
        "to": route.login,
        "jump": options.jump or "",
        "key": options.key or "the key",
        "known_hosts": options.known_hosts or "~/.ssh/known_hosts",
    }
    for pattern, code, remedy in _CAUSES:
        if re.search(pattern, words):
            said = "" if "HOST IDENTIFICATION" in pattern else f" (ssh: {shown})"
            return Complaint(code, f"{remedy.format(**names)}{said}")
    if status is not None and status < 0:
        return Complaint(_LOST, f"ssh was killed by signal {-status}")
    return Complaint(errno.EIO, f"ssh: {shown or f'exit status {status}'}")


def has_refused(output: bytes) -> bool:
    """Say whether a tunnel that runs could not reach its far end."""
    return b"open failed: " in output


def is_made_there(output: bytes) -> bool:
    """Say whether ssh, with -v, has told that the server made the socket there."""
    return b"remote forward success for: listen" in output


def _lines(output: bytes) -> list[str]:
    text = output.decode("utf-8", "replace")
    lines = ("".join(letter if letter.isprintable() else "?" for letter in line) for line in re.split(r"[\r\n]+", text))
    said = (line.strip().removeprefix("ssh: ") for line in lines if line.strip(" @"))
    return [line for line in said if not _DETAIL.match(line)]
