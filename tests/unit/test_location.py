"""What is written as a source, a target or a path, and what is refused because something else was meant."""

from __future__ import annotations

import pytest

from ntxengine.dataplane.location import check_path, parse
from ntxengine.errors import OptionsError


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("null", "write null:"),
        ("NULL", "write null:"),
        ("pattern", "write pattern:SIZE"),
        ("localhost:10899", "nbd://localhost:10899/"),
        ("10.0.0.7:10809/disk0", "nbd://10.0.0.7:10809/disk0"),
        ("[::1]:10809", "nbd://[::1]:10809/"),
        ("::1:10898", "nbd://[::1]:10898/"),
        ("fe80::1:2/disk0", "nbd://[fe80::1:2]/disk0"),
        ("nbd:host", "nbd://host/"),
        ("nbd:/x", "nbd://HOST[:PORT]/EXPORT"),
        ("nbd:host:10810:exportname=a b", "nbd://host:10810/a%20b"),
        ("nbd:unix:/run/s:exportname=x", "nbd+unix:///x?socket=/run/s"),
        ("unix:/run/s", "nbd+unix:///?socket=/run/s"),
        ("file:///a%20b", "write the path: /a b"),
        ("file:/a", "write the path: /a"),
        ("s3://bucket/key", "unknown kind of address"),
        ("nas:/backups", "mount it"),
        ("me@nas:disk.raw", "mount it"),
    ],
)
def test_look_alike_is_refused_with_the_right_spelling_and_the_way_to_a_file_of_that_name(
    text: str, right: str
) -> None:
    with pytest.raises(OptionsError) as refused:
        parse(text)

    assert right in str(refused.value)
    assert f"./{text}" in str(refused.value)
    assert parse(f"./{text}").path == f"./{text}"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("nbd://::1:10898/", "nbd://[::1]:10898/"),
        ("nbd://::1/x", "nbd://[::1]/x"),
        ("nbd://fe80::1:2:10809/disk", "nbd://[fe80::1:2]:10809/disk"),
        ("nbd://fe80::1:2/disk", "nbd://[fe80::1:2]/disk"),
        ("nbd://::ffff:10.0.0.1:10809", "nbd://[::ffff:10.0.0.1]:10809/"),
        ("nbd://1:2:3:4:5:6:7:8:10809/", "nbd://[1:2:3:4:5:6:7:8]:10809/"),
        ("nbd://host:abc/x", "nbd://HOST[:PORT]/EXPORT"),
        ("nbd://host:99999/x", "nbd://HOST[:PORT]/EXPORT"),
        ("nbd://[::1/x", "an IPv6 address in brackets"),
    ],
)
def test_a_host_that_cannot_be_read_is_shown_in_brackets(text: str, right: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse(text)

    assert right in str(caught.value)


def test_tls_inside_ssh_is_refused_and_says_what_is_encrypted() -> None:
    with pytest.raises(
        OptionsError, match=r"nbds\+ssh:// is not supported: nbd\+ssh:// is encrypted as far as the ssh server"
    ):
        parse("nbds+ssh://host/x")


@pytest.mark.parametrize("text", ["nbd://[fe80::1%25eth0]:10809/", "nbd://[fe80::1%eth0]:10809/"])
def test_the_interface_of_an_address_may_be_written_as_messages_write_it(text: str) -> None:
    assert parse(text).host == "fe80::1%eth0"


@pytest.mark.parametrize("text", ["nbd://me:secret@host/e", "http://me:secret@host/e", "sftp://me:secret@nas/x"])
def test_password_in_an_address_is_not_repeated(text: str) -> None:
    for look in (parse, check_path):
        with pytest.raises(OptionsError) as refused:
            look(text)

        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("text", ["a", "a:b.raw", "nbd", "nbdisk:a", "d/nbd://x", "/x:1/y", "../-", "//server/share"])
def test_path_is_a_path(text: str) -> None:
    check_path(text)

    assert (parse(text).kind, parse(text).path) == ("file", text)


@pytest.mark.parametrize("text", ["NBD://host/e", "nbd://host/e"])
def test_scheme_may_be_written_in_capitals(text: str) -> None:
    assert (parse(text).kind, parse(text).host, parse(text).export) == ("nbd_tcp", "host", "e")


@pytest.mark.parametrize(
    "text",
    [
        "nbd://host/", "NBD://host", "nbd:host", "nbd+unix:///?socket=/s", "nbds://host", "s3://bucket", "file:///x",
        "host:10809", "null:", "null", "pattern:1M", "-", "nas:/backups", "sftp://me@nas/x", "unix:/s",
    ],
)  # fmt: skip
def test_address_is_refused_where_only_a_path_can_be_meant(text: str) -> None:
    with pytest.raises(OptionsError, match="if that is the name of"):
        check_path(text)

    check_path(f"./{text}")
    check_path(f"/srv/{text}")


def test_encrypted_location_has_the_same_parts_and_may_have_the_user_of_a_key() -> None:
    tcp = parse("NBDS://al%40ice@host:1234/disk%20one")
    unix = parse("nbds+unix:///x?socket=/run/s")
    named = parse("nbds+unix://alice@/x?socket=/run/s")

    assert (tcp.kind, tcp.is_tls, tcp.host, tcp.port) == ("nbd_tcp", True, "host", 1234)
    assert (tcp.user, tcp.export) == ("al@ice", "disk one")
    assert (unix.kind, unix.is_tls, unix.path, unix.export, unix.user) == ("nbd_unix", True, "/run/s", "x", "")
    assert (named.user, named.path) == ("alice", "/run/s")
    assert not parse("nbd://host/").is_tls


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("nbds://alice:secret@host/", "no user or password"),
        ("nbds://host/?tls-certificates=/pki", "write nbds://HOST[:PORT]/EXPORT"),
        ("nbds://::1:10898/", "nbds://[::1]:10898/"),
        ("nbds+unix:///x", "write nbds+unix:///EXPORT?socket=PATH"),
    ],
)
def test_encrypted_location_that_means_nothing_is_refused_as_such(text: str, right: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse(text)

    assert right in str(caught.value)
    assert "secret" not in str(caught.value)
