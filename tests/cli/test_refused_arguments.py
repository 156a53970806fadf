"""Every wrong argument: one line, exit code 2, and nothing was touched."""

import socket
from pathlib import Path

import pytest

from tests.cli.ntx import assert_refused, ntx

PRISM = ("--prism", "https://127.0.0.1:1", "--username", "u")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["foo"], "foo"),
        (["--foo"], "--foo"),
        (["copy"], "SOURCE"),
        (["copy", "a"], "TARGET"),
        (["copy", "a", "b", "c"], "c"),
        (["copy", "a", "b", "--foo"], "--foo"),
        (["copy", "a", "b", "--connections", "0"], "--connections"),
        (["copy", "a", "b", "--connections", "65"], "--connections"),
        (["copy", "a", "b", "--connections", "many"], "--connections"),
        (["copy", "a", "b", "--in-flight", "0"], "--in-flight"),
        (["copy", "a", "b", "--request-size", "1000"], "request size 1000"),
        (["copy", "a", "b", "--request-size", "0"], "request size 0"),
        (["copy", "a", "b", "--request-size", "64M"], "request size"),
        (["copy", "a", "b", "--request-size", "big"], "is not a size"),
        (["copy", "a", "b", "--request-size", "-1"], "is not a size"),
        (["copy", "a", "b", "--bandwidth", "fast"], "is not a size"),
        (["copy", "a", "b", "--bandwidth", "08:00,50M"], "would be the rate of all day"),
        (["copy", "a", "b", "--bandwidth", "8,50M 19:00,off"], "is not a size"),
        (["copy", "a", "b", "--bandwidth", "08:00,50M 25:00,off"], "'25:00' is not a time of the day"),
        (["copy", "a", "b", "--bandwidth", "9" * 5000], "is not a size"),
        (["verify", "p", "--repository", ".", "--sample", "5"], "is not a share of a disk"),
        (["verify", "p", "--repository", ".", "--sample", "0%"], "is not a share of a disk"),
        (["verify", "p", "--repository", ".", "--sample", "101%"], "is not a share of a disk"),
        (["verify", "p", "--repository", ".", "--for", "10"], "is not a time"),
        (["verify", "p", "--repository", ".", "--for", "0s"], "is not a time"),
        (["verify", "p", "--repository", ".", "--for", "9" * 400 + "h"], "is not a time"),
        (["verify", "p", "--repository", ".", "--sample", "5%", "--seed", "4294967296"], "--seed"),
        (["restore", "p", "d", "--from", ".", "--bandwidth", "25:00,5M 26:00,off"], "is not a time of the day"),
        (["capture", "db01", "--to", "r", *PRISM, "--keep-recovery-point", "9999999d"], "is not a time to live"),
        (["verify", "p", "--repository", ".", "--for", "1m", "--sample", "5%"], "--sample and --for contradict"),
        (["verify", "p", "--repository", ".", "--seed", "5"], "--seed is of --sample or --for"),
        (["copy", "a", "b", "--timeout", "0"], "--timeout"),
        (["copy", "a", "b", "--timeout", "nan"], "timeout"),
        (["copy", "a", "b", "--progress", "loud"], "--progress"),
        (["copy", "a", "b", "-q", "-v"], "--quiet contradicts"),
        (["copy", "", "b"], "names nothing"),
        (["copy", "null:", "b"], "can only be a target"),
        (["copy", "pattern:1M", "pattern:1M"], "can only be a source"),
        (["copy", "pattern:lots", "null:"], "is not a size"),
        (["copy", "pattern:9E", "null:"], "is not a size"),
        (["copy", "pattern:1M", "null:", "--verify"], "--verify"),
        (["copy", "nbd+ssh://-oProxyCommand=x/e", "null:"], "is not the name or the address of a host"),
        (["copy", "nbd+ssh://me:secret@host/e", "null:"], "takes no password"),
        (["copy", "nbd+ssh://host/e", "null:", "--ssh-key", "missing"], "--ssh-key: missing cannot be read"),
        (["copy", "nbd+ssh://host/e", "null:", "--ssh-jump=-oX"], "is not the name or the address of a host"),
        (["copy", "a", "null:", "--ssh-key", "k"], "--ssh-key: nothing here goes through ssh: write nbd+ssh://"),
        (["capture", "db01", "--to", "r", *PRISM, "--ssh-jump", "h"], "--ssh-jump: nothing here goes through ssh"),
        (["capture", "db01", "--to", "r", *PRISM, "--tunnel", "http://h"], "is not [USER@]HOST[:PORT]"),
        (["copy", "nbds://host/e", "null:"], "--tls-ca"),
        (["copy", "http://host/disk", "null:"], "unknown kind of address"),
        (["copy", "nbd://user:secret@host/e", "null:"], "no user or password"),
        (["copy", "nbd+unix:///e", "null:"], "socket=PATH"),
        (["copy", "nbd://host:99999/e", "null:"], "99999"),
        (["map"], "SOURCE"),
        (["info"], "SOURCE"),
        (["checksum", "null:"], "can only be a target"),
        (["vms"], "--prism"),
        (["vms", "--prism", "https://h"], "--username"),
        (["vms", *PRISM], "no password"),
        (["vms", *PRISM, "--password-file", "missing"], "missing"),
        (["vms", *PRISM, "--ca-file", "missing.pem"], "--ca-file"),
        (["vms", *PRISM, "--api", "v5"], "--api"),
        (["vms", *PRISM, "--prism-timeout", "0"], "--prism-timeout"),
        (["vms", *PRISM, "--cluster", ""], "'--cluster': it is empty"),
        (["capture", "db01", "--to", "r", *PRISM, "--worker", " "], "'--worker': it is empty"),
        (["capture", "db01", "--to", "r", *PRISM, "--nfs-server", ""], "'--nfs-server': it is empty"),
        (["capture", "db01", "--to", "r", *PRISM, "--data-services", ""], "'--data-services': it is empty"),
        (["capture", "--to", "r", *PRISM], "VM"),
        (["capture", "db01", *PRISM], "--repository"),
        (["capture", "db01", "--to", "r"], "--prism"),
        (["capture", "db01", "--to", "r", *PRISM, "--consistency", "perfect"], "--consistency"),
        (["capture", "db01", "--to", "r", *PRISM, "--on-lost-tracking", "cry"], "--on-lost-tracking"),
        (["capture", "db01", "--to", "r", *PRISM, "--keep-recovery-point", "soon"], "--keep-recovery-point"),
        (["capture", "db01", "--to", "r", *PRISM, "--keep-recovery-point", "0h"], "--keep-recovery-point"),
        (["capture", "db01", "--to", "r", *PRISM, "--disks", "0"], "--disks"),
        (["capture", "db01", "--to", "r", *PRISM, "--request-size", "100"], "request size"),
        (["points"], "--repository"),
        (["verify", "--repository", "r"], "POINT"),
        (["verify", "p", "--all", "--repository", "r"], "--all"),
        (["restore", "p", "--from", "r"], "DIRECTORY"),
        (["restore", "p", "d", "--from", "r", "--format", "vmdk"], "--format"),
        (["sweep"], "--repository"),
        (["sim", "--port", "70000"], "--port"),
        (["sim", "--config", "missing.yaml"], "missing.yaml"),
        (["completion", "tcsh"], "tcsh"),
        (["demo", "--what"], "--what"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_argument(arguments: list[str], word: str, tmp_path: Path) -> None:
    ran = ntx(*arguments, cwd=tmp_path)

    assert_refused(ran, 2, word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "JSON"),
        ("{}", "JSON"),
        ("[1]", "JSON array of extents"),
        ('[{"offset": 0, "length": 0, "type": "data"}]', "$[0].length"),
        ('[{"offset": 0, "length": 1, "type": "hole"}]', "'hole'"),
        ('[{"offset": 0, "length": 2000000, "type": "data"}]', "ends behind"),
        ('[{"offset": 9223372036854775807, "length": 9223372036854775807, "type": "data"}]', "ends behind"),
        ('[{"offset": 512, "length": 512, "type": "data"}, {"offset": 0, "length": 512, "type": "data"}]', "ascending"),
        ('[{"offset": 0, "length": 512, "type": "data"}', "JSON"),
    ],
)
def test_wrong_extents_file(text: str, word: str, tmp_path: Path) -> None:
    extents = tmp_path / "extents.json"
    extents.write_text(text)

    ran = ntx("copy", "pattern:1M", "disk.raw", "--extents", extents, cwd=tmp_path)

    assert_refused(ran, 2, "extents.json", word)
    assert [path.name for path in tmp_path.iterdir()] == ["extents.json"]


def test_manifest_that_exists_is_not_replaced(tmp_path: Path) -> None:
    manifest = tmp_path / "m"
    manifest.write_text("mine")

    ran = ntx("copy", "pattern:1M", "null:", "--manifest", manifest, cwd=tmp_path)

    assert_refused(ran, 2, "exists")
    assert manifest.read_text() == "mine"


def test_target_of_another_size_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    target.write_bytes(b"mine")

    ran = ntx("copy", "pattern:1M", target, cwd=tmp_path)

    assert_refused(ran, 2, "4 bytes", "1048576")
    assert target.read_bytes() == b"mine"


def test_source_is_not_copied_onto_itself(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"x" * 4096)

    ran = ntx("copy", disk, tmp_path / "." / "disk.raw", cwd=tmp_path)

    assert_refused(ran, 2, "source itself")


def test_no_option_takes_a_password() -> None:
    files = {"--ssh-key"}
    for command in ("vms", "capture", "sweep"):
        options = {word.strip(",") for word in ntx(command, "--help").out.split() if word.startswith("--")}

        secrets = {option for option in options if "password" in option or "key" in option}
        assert secrets - files == {"--password-file", "--element-password-file", "--api-key-file"}


@pytest.mark.parametrize("arguments", [("info", "{}"), ("copy", "{}", "null:"), ("copy", "pattern:64K", "{}")])
def test_a_socket_is_refused_with_the_uri_of_its_server(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "nbd sock"))

        ran = ntx(*(each.format(tmp_path / "nbd sock") for each in arguments))

    assert_refused(ran, 2, "is a socket", f"nbd+unix:///?socket={tmp_path}/nbd%20sock")


@pytest.mark.parametrize(
    ("variable", "value", "arguments"),
    [
        ("NTX_API", "v5", ("vms", *PRISM)),
        ("NTX_PRISM_TIMEOUT", "soon", ("vms", *PRISM)),
        ("NTX_INSECURE", "perhaps", ("vms", *PRISM)),
        ("NTX_CA_FILE", "/nonexistent", ("vms", *PRISM)),
        ("NTX_PASSWORD_FILE", "/nonexistent", ("vms", *PRISM)),
        ("NTX_PRISM", "ftp://host", ("vms", "--username", "u")),
        ("NTX_USERNAME", "a:b", ("vms", "--prism", "https://127.0.0.1:1")),
        ("NTX_PROGRESS", "fast", ("checksum", "pattern:64K")),
        ("NTX_DEBUG", "perhaps", ("checksum", "pattern:64K")),
        ("NTX_TIER", "TAPE", ("checksum", "pattern:64K")),
        ("NTX_BANDWIDTH", "much", ("checksum", "pattern:64K")),
        ("NTX_SIM_PORT", "70000", ("sim",)),
        ("NTX_REPOSITORY", "/nonexistent", ("points",)),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = ntx(*arguments, env={"NTX_PASSWORD": "p", variable: value} if "FILE" not in variable else {variable: value})

    assert ran.code in (2, 10)
    assert variable in ran.err


def test_a_bad_option_names_no_variable() -> None:
    assert_refused(ntx("vms", *PRISM, "--api", "v5", env={"NTX_API": "v4"}), 2, "'--api': 'v5'")
    assert "NTX_API" not in ntx("vms", *PRISM, "--api", "v5", env={"NTX_API": "v4"}).err


def test_a_word_that_any_message_may_have_names_no_variable(tmp_path: Path) -> None:
    common = {"NTX_PROGRESS": "none", "NTX_DEBUG": "0", "NTX_BANDWIDTH": "1"}

    word = ntx("checksum", "none", env=common, cwd=tmp_path)
    number = ntx("checksum", "1", env=common, cwd=tmp_path)
    named = ntx("points", env={**common, "NTX_REPOSITORY": str(tmp_path / "absent")})

    for ran in (word, number, named):
        assert ran.code
        assert not any(f"{name}=" in ran.err for name in common), ran.err
    assert f"(NTX_REPOSITORY={tmp_path / 'absent'})" in named.err
