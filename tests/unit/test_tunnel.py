"""What ssh is told, what is refused before it is, and what is made of what it says."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from ntxengine.dataplane.location import parse
from ntxengine.errors import OptionsError
from ntxengine.tunnel.command import command, environment, write_configuration
from ntxengine.tunnel.options import FarEnd, SshLogin, SshOptions, parse_ssh_login
from ntxengine.tunnel.process import is_listening
from ntxengine.tunnel.words import Complaint, Route, explain

HOST = SshLogin("host.example", 443, "me")
ROUTE = Route("nbd+ssh://me@host.example:443/disk", HOST, FarEnd(port=10809))
ODD = ["", "-oProxyCommand=id", "a b", "a;id", "$(id)", "`id`", "a\n", "a%h", "a/b", "a@b", "a'b", "é", "x" * 300]


# --------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("host", [*ODD, "[::1]", "fe80::1%eth0", "a-", ".a"])
def test_a_host_that_ssh_could_take_for_something_else_is_refused(host: str) -> None:
    with pytest.raises(OptionsError, match="is not the name or the address of a host"):
        SshLogin(host)


@pytest.mark.parametrize("user", [odd for odd in ODD if odd])
def test_a_user_that_ssh_could_take_for_something_else_is_refused(user: str) -> None:
    with pytest.raises(OptionsError, match="is not the name of a user"):
        SshLogin("host", user=user)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_port_out_of_bounds_is_refused(port: int) -> None:
    with pytest.raises(OptionsError, match="port"):
        SshLogin("host", port)


@pytest.mark.parametrize("path", ["relative", "/a:b", "/a b", "/a%h", "/${HOME}", "/a\nb", "/" + "a" * 107])
def test_a_socket_there_that_ssh_could_take_for_something_else_is_refused(path: str) -> None:
    with pytest.raises(OptionsError, match="is not the path of a socket there"):
        FarEnd(path=path)


@pytest.mark.parametrize("name", ['a"b', "a$b", "a\\b", "a\nb"])
def test_a_file_of_ours_whose_name_ssh_would_change_is_refused(name: str, tmp_path: Path) -> None:
    key = tmp_path / name
    key.touch(mode=0o600)

    with pytest.raises(OptionsError, match="read its name as another"):
        SshOptions(key=key).check()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o601])
def test_a_key_that_others_can_use_is_refused(mode: int, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    key.chmod(mode)

    with pytest.raises(OptionsError, match=f"can be used by others .*chmod 600 {key}"):
        SshOptions(key=key).check()


def test_files_that_are_not_there_or_that_others_change_are_refused(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    hosts.chmod(0o666)

    with pytest.raises(OptionsError, match=r"--ssh-key: .*No such file"):
        SshOptions(key=tmp_path / "absent").check()
    with pytest.raises(OptionsError, match=r"--ssh-key: .*is not a file"):
        SshOptions(key=tmp_path).check()
    with pytest.raises(OptionsError, match="can be changed by anybody"):
        SshOptions(known_hosts=hosts).check()


def test_a_key_that_is_ours_alone_is_taken(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)

    SshOptions(key=key, known_hosts=key).check()


# ------------------------------------------------------------------------------------------------------ URIs


@pytest.mark.parametrize(
    ("text", "login", "far", "export"),
    [
        ("nbd+ssh://host/disk", SshLogin("host"), FarEnd(port=10809), "disk"),
        ("nbd+ssh://me@host:443/", SshLogin("host", 443, "me"), FarEnd(port=10809), ""),
        ("NBD+SSH://host/a%20b?port=9", SshLogin("host"), FarEnd(port=9), "a b"),
        ("nbd+ssh://me@[::1]:2/?socket=/run/nbd.sock", SshLogin("::1", 2, "me"), FarEnd(path="/run/nbd.sock"), ""),
    ],
)
def test_an_export_behind_an_ssh_server_is_named(text: str, login: SshLogin, far: FarEnd, export: str) -> None:
    location = parse(text)

    assert (location.kind, location.login, location.far, location.export) == ("nbd_ssh", login, far, export)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nbd+ssh:///disk", "write nbd"),
        ("nbd+ssh://@host/disk", "write nbd"),
        ("nbd+ssh://me:secret@host/disk", "takes no password"),
        ("nbd+ssh://-oProxyCommand=id/disk", "not the name or the address"),
        ("nbd+ssh://%2DoProxyCommand=id/disk", "not the name or the address"),
        ("nbd+ssh://-lroot@host/disk", "not the name of a user"),
        ("nbd+ssh://me%0Aroot@host/disk", "not the name of a user"),
        ("nbd+ssh://host:0/disk", "port 0"),
        ("nbd+ssh://host/disk?port=0", "port 0"),
        ("nbd+ssh://host/disk?port=1e3", "write nbd"),
        ("nbd+ssh://host/disk?port=1&port=2", "write nbd"),
        ("nbd+ssh://host/disk?socket=", "not the path of a socket"),
        ("nbd+ssh://host/disk?socket=/a&port=2", "write nbd"),
        ("nbd+ssh://host/disk?nonsense=1", "write nbd"),
        ("nbd+ssh://host/disk?nonsense", "write nbd"),
        ("nbd+ssh://host/disk#here", "write nbd"),
    ],
)
def test_a_uri_that_means_something_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(OptionsError) as refused:
        parse(text)

    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("text", ["ssh://me@host:443", "me@host:443", "ssh://me@host:443/"])
def test_a_login_is_written_with_or_without_its_scheme(text: str) -> None:
    assert parse_ssh_login(text) == SshLogin("host", 443, "me")


@pytest.mark.parametrize(
    "text", ["", "me@", "host:", "host:x", "a,b", "me@host:1,other", "::1", "ssh://h/path", "http://h"]
)
def test_what_is_no_login_is_refused(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_ssh_login(text)


# --------------------------------------------------------------------------------------------------- command


def test_the_host_comes_last_behind_two_dashes(tmp_path: Path) -> None:
    argv = command(
        HOST, SshOptions(tmp_path / "key", tmp_path / "hosts"), None, "-N", "-L", f"{tmp_path}/0.sock:there:1"
    )

    assert argv[argv.index("ssh") :][:3] == ["ssh", "-F", "none"]
    assert argv[-2:] == ["--", "host.example"]
    assert argv[argv.index("-N") :][:3] == ["-N", "-L", f"{tmp_path}/0.sock:there:1"]
    assert argv[argv.index("-l") + 1] == "me"
    assert argv[argv.index("-p") + 1] == "443"
    assert {
        "-oBatchMode=yes",
        "-oExitOnForwardFailure=yes",
        "-oStrictHostKeyChecking=yes",
        "-oIdentitiesOnly=yes",
        "-oCompression=no",
        "-oIPQoS=none",
        f'-oUserKnownHostsFile="{tmp_path}/hosts"',
        "-oGlobalKnownHostsFile=none",
        f'-oIdentityFile="{tmp_path}/key"',
    } <= set(argv)


def test_a_jump_host_is_held_to_the_same_settings(tmp_path: Path) -> None:
    options = SshOptions(tmp_path / "50%", jump=SshLogin("jump", 2222, "you"))

    configuration = write_configuration(tmp_path, options)
    argv = command(HOST, options, configuration, "-W", "there:1")

    assert configuration is not None
    assert configuration.stat().st_mode & 0o777 == 0o600
    lines = configuration.read_text().splitlines()
    assert {"BatchMode yes", "StrictHostKeyChecking yes", f'IdentityFile "{tmp_path}/50%%"'} <= set(lines)
    assert argv[argv.index("-F") + 1] == str(configuration)
    assert argv[argv.index("-J") + 1] == "you@jump:2222"


def test_ssh_sees_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTX_PASSWORD", "secret")

    assert "secret" not in environment().values()
    assert environment()["PATH"] == os.environ["PATH"]


# ----------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("said", "code", "remedy"),
    [
        ("ssh: connect to host host.example port 443: Connection refused", errno.ECONNREFUSED, "no ssh server listens"),
        (
            "ssh: connect to host host.example port 443: No route to host",
            errno.EHOSTUNREACH,
            "no route to host.example",
        ),
        ("ssh: connect to host host.example port 443: Connection timed out", errno.ETIMEDOUT, "firewall"),
        ("Timeout, server host.example not responding.", errno.ETIMEDOUT, "no answer from host.example port 443"),
        (
            "ssh: Could not resolve hostname host.example: Name or service not known",
            errno.EHOSTUNREACH,
            "means nothing",
        ),
        ("me@host.example: Permission denied (publickey).", errno.EACCES, "authorized_keys"),
        ('Load key "/k": invalid format\r\nme@h: Permission denied (publickey).', errno.EACCES, "no private key"),
        ("@@ REMOTE HOST IDENTIFICATION HAS CHANGED! @@", errno.EACCES, "ssh-keygen -f /kh -R '[host.example]:443'"),
        ("No ED25519 host key is known for [host.example]:443 and", errno.EACCES, "ssh-keyscan -p 443 host.example"),
        ("channel 1: open failed: administratively prohibited: open failed", errno.EPERM, "PermitOpen"),
        ("channel 1: open failed: connect failed: Connection refused", errno.ECONNREFUSED, "127.0.0.1:10809 there"),
        ("kex_exchange_identification: Connection closed by remote host", errno.ECONNRESET, "MaxStartups"),
        ("Unable to negotiate with 1.2.3.4: no matching cipher found.", errno.EPROTO, "agree on no way"),
        ("something new", errno.EIO, "ssh: something new"),
        ("", errno.EIO, "exit status 255"),
    ],
)
def test_what_ssh_says_becomes_a_code_and_a_remedy(said: str, code: int, remedy: str) -> None:
    found = explain(f"{said}\r\n".encode(), 255, ROUTE, SshOptions(known_hosts=Path("/kh")))

    assert found.code == code
    assert remedy in found.text
    assert "\n" not in found.text


def test_the_complaint_of_a_jump_host_names_the_jump_host() -> None:
    options = SshOptions(jump=SshLogin("jump", 2222))
    lost = (
        b"kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n"
    )

    refused = explain(b"ssh: connect to host jump port 2222: Connection refused\r\n" + lost, 255, ROUTE, options)
    beyond = explain(
        b"channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n" + lost,
        255,
        ROUTE,
        options,
    )

    assert "no ssh server listens at jump port 2222" in refused.text
    assert "the jump host jump:2222 does not reach me@host.example:443" in beyond.text


def test_what_a_server_says_cannot_break_the_line_or_fill_it() -> None:
    found = explain(b"\x1b[2Jbanner\r\n" * 400, 255, ROUTE, SshOptions())

    assert len(found.text) < 500
    assert "\x1b" not in found.text


def test_a_kill_is_told_from_a_refusal() -> None:
    assert explain(b"", -9, ROUTE, SshOptions()) == Complaint(errno.ECONNRESET, "ssh was killed by signal 9")


def test_a_tunnel_is_up_when_somebody_listens_and_not_when_its_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a b"
    assert not is_listening(path)

    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        assert not is_listening(path)

        bound.listen()
        assert is_listening(path)

    assert not is_listening(path)
