"""Every mistake of a file is said at once: file, line, key, what is wrong, the nearest right one."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from ntxengine.config.problems import ConfigError
from ntxengine.config.reading import Loaded, load, parse
from ntxengine.errors import OptionsError

CLUSTER = "nutanix: {prism_central: pc, username: u}\nbackup: {repository: /r}\n"


def read(text: str | bytes, environment: Mapping[str, str] | None = None) -> Loaded:
    content = text.encode() if isinstance(text, str) else text
    return parse(content, "f.yaml", folder=Path("/etc"), environment=environment or {})


def refused(text: str | bytes, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        read(text, environment)
    assert raised.value.exit_code == 2
    return raised.value.problems


def job(text: str, before: str = CLUSTER) -> str:
    """A file with one job; what it says begins in line 4 if it is not changed before."""
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    return f"{before}jobs:\n  -\n{lines}\n"


def test_all_mistakes_are_said_at_once_in_their_order() -> None:
    found = refused(
        "nutanix:\n  prism_centrall: x\n  timeout: 0\nbackup:\n  consistency: aplication\n  verify: maybe\n"
        "jobs:\n  - {name: a, evry: 15m}\n  - {name: b, cron: '0 2 * * * *'}\nagnet: {}\n"
    )

    assert found == (
        "f.yaml:2: nutanix.prism_centrall: unknown key; nearest: prism_central",
        "f.yaml:3: nutanix.timeout: '0' is not more than 0",
        "f.yaml:5: backup.consistency: 'aplication' is none of auto, application, app, crash; nearest: application",
        "f.yaml:6: backup.verify: 'maybe' is neither true nor false",
        "f.yaml:8: jobs[0].evry: unknown key; nearest: every",
        "f.yaml:9: jobs[1].cron: '0 2 * * * *' has 6 fields: write five, minute hour day month weekday, such as "
        "0 2 * * *",
        "f.yaml:10: agnet: unknown key; nearest: agent",
    )


def test_the_error_says_the_first_and_how_many_more() -> None:
    with pytest.raises(ConfigError) as raised:
        read("a: 1\nb: 2\nc: 3\n")

    assert str(raised.value).startswith("f.yaml:1: a: unknown key")
    assert str(raised.value).endswith("(and 2 more: ntx config check f.yaml)")
    assert pickle.loads(pickle.dumps(raised.value)).problems == raised.value.problems


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("nutanix: 5", "f.yaml:1: nutanix: must be keys with values"),
        ("jobs: {name: a}", "f.yaml:1: jobs: must be a list, such as [a, b]"),
        ("jobs: [5]", "f.yaml:1: jobs[0]: must be keys with values"),
        ("jobs:\n- {every: 1h}", "f.yaml:2: jobs[0].name: is missing"),
        ("jobs:\n- {name: 'a b'}", "f.yaml:2: jobs[0].name: 'a b' is no name"),
        ("nutanix: {bandwidth: 5M}", "f.yaml:1: nutanix.bandwidth: unknown key; it belongs to performance"),
        ("nutanix: {username: [a]}", "f.yaml:1: nutanix.username: must be one text"),
        ("nutanix: {password: [a]}", "f.yaml:1: nutanix.password: must be one text"),
        ("nutanix: {password: ''}", "f.yaml:1: nutanix.password: is empty"),
        ("nutanix: {fingerprint: ab}", "64 hexadecimal digits"),
        ("nutanix: {cluster_uuid: c1}", "'c1' is not a UUID"),
        ("nutanix: {prism_central: 'http://pc'}", "does not start with https://"),
        ("backup: {zstd_level: 99}", "f.yaml:1: backup.zstd_level: '99' is more than 19"),
        ("backup: {max_chain: 1.5}", "'1.5' is not a whole number"),
        ("backup: {source: nsf}", "'nsf' is no way to the disks; nearest: nfs"),
        ("backup: {audit: 5}", "less than one block"),
        ("backup: {keep_recovery_point: 30m}", "write hours or days"),
        ("backup: {repository: 'nbd://x'}", "only a path can be given here"),
        ("performance: {bandwidth: '25:00,5M 26:00,off'}", "not a time of the day"),
        ("performance: {bandwidth_limit_mbps: -1}", "'-1' is less than 0"),
        ("performance: {cpu_limit: 5}", "CPU limit '5': write a part"),
        ("performance: {limits: {per_vm: 1}}", "performance.limits.per_vm: unknown key"),
        ("tunnel: {control_plane_host: '-oProxy'}", "is not the name or the address of a host"),
        ("agent: {socket_mode: '9'}", "three octal digits"),
        ("agent: {metrics: {listen: 9108}}", "write ADDRESS:PORT"),
        ("agent: {metrics: {listen: '127.evil.example:9108'}}", "is no address of this machine"),
        ("agent: {log: {format: xml}}", "'xml' is none of text, json"),
        ("profiles: {'a b': {}}", "'a b' is no name"),
        ("profiles: {lab: {jobs: []}}", "f.yaml:1: profiles.lab.jobs: unknown key"),
        (job("{name: a, retention: {keep_lst: 3}}"), "f.yaml:5: jobs[0].retention.keep_lst: unknown key; nearest: "),
        (job("{name: a, vms: db}"), "jobs[0].vms: must be a list, such as [a, b]"),
        (job("{name: a, every: 5s}"), "5s is less than 1m"),
        (job("{name: a, cron: '0 0 30 2 *'}"), "jobs[0].cron: '0 0 30 2 *'"),
        (job("{name: a, cron: '61 * * * *'}"), "'61 * * * *'"),
        (job("{name: a, timezone: Europe/Berln}"), "no time zone that this machine knows"),
        (job("{name: a, windows: ['22:00-22:00']}"), "jobs[0].windows[0]: '22:00-22:00' never opens"),
        (job("{name: a, windows: ['25:00-26:00']}"), "25:00 is not a time of the day"),
        (job("{name: a, windows: ['mo 20:00-21:00']}"), "'mo' is not a weekday"),
        (job("{name: a, categories: [Environment]}"), "is not written KEY=VALUE"),
        (job("{name: a, hooks: {failure: tell}}"), "jobs[0].hooks.failure: must be a list"),
        (job("{name: a, hooks: {failure: []}}"), "jobs[0].hooks.failure: is empty"),
        (job("{name: a, pings: {success: 'ftp://x'}}"), "jobs[0].pings.success: is not a URL"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_said_with_its_line_and_key(text: str, line: str) -> None:
    assert any(line in each for each in refused(text)), refused(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"a: 1\n\tb: 2\n", "f.yaml:2: a tab in the indentation: write spaces"),
        (b"a: [1\n", "f.yaml:2: no YAML"),
        (b"a: b: c\n", "f.yaml:1: no YAML"),
        (b"a: \x01\n", "a character that YAML does not have"),
        (b'a: "\\U99999999"\n', "no YAML"),
        (b'nutanix: {username: "\\0"}\n', "has a character that cannot be shown"),
        (b'nutanix: {username: "\\uD800"}\n', "has a character that cannot be shown"),
        (b"- a\n", "must be keys with values"),
        (b"a: 1\n---\nb: 2\n", "f.yaml:2: a second document begins"),
        (b"nutanix:\n  username: a\n  username: b\n", "f.yaml:3: nutanix.username: is there already, in line 2"),
        (b"{[a]: b}\n", "a key must be one word"),
        (b"nutanix: !!python/object:os.system {}\n", "tags have no meaning here"),
        (b"nutanix: {username: !!str 5}\n", "tags have no meaning here"),
        (b"nutanix: *there\n", "there is no such anchor"),
        (b"nutanix: &a {username: *a}\n", "there is no such anchor"),
        (b"a: " + b"[" * 40 + b"]" * 40, "more than 16 levels"),
        (b"#" * (1024**2 + 1), "more than 1048576 bytes"),
        (b"a: [" + b"1," * 60_000 + b"]", "more than 50000 values"),
        (b"a: {b: &a [1]}\nc: [" + b"*a," * 1100 + b"]", "more than 1000 aliases"),
    ],
)
def test_what_is_no_configuration_is_refused(text: bytes, line: str) -> None:
    assert any(line in each for each in refused(text)), refused(text)


def test_aliases_that_multiply_are_refused_early() -> None:
    levels = "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

    assert any("more than" in each for each in refused(f"a0: &a0 [x]\n{levels}"))


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? "])
def test_a_file_of_brackets_is_refused_before_it_costs_minutes(opening: str) -> None:
    (line,) = refused(opening * 20_000)

    assert "more than 16 levels" in line


def test_an_alias_is_what_it_stands_for() -> None:
    found = read("nutanix: {prism_central: pc, username: &name backup, element_name: *name}\n").config

    assert found.nutanix.element_name == "backup"


def test_values_are_the_texts_that_stand_there() -> None:
    """YAML 1.1 makes other things of all of these."""
    found = read(job("name: 007\nvms: [on, 22:00, 0x1f, 1_000, 1.10, 2026-01-01, ~x]\nevery: 1h")).config.jobs[0]

    assert found.name == "007"
    assert found.vms == ("on", "22:00", "0x1f", "1_000", "1.10", "2026-01-01", "~x")
    assert read("performance: {bandwidth: off}").config.performance.bandwidth == "off"
    assert read("backup: {verify: no}").config.backup.verify is False


def test_a_key_without_a_value_is_as_if_it_was_not_there() -> None:
    assert read("nutanix:\nbackup:\n  repository:\n  audit: ~\n").config == read("").config
    assert refused("backup:\n  repostory:\n") == ("f.yaml:2: backup.repostory: unknown key; nearest: repository",)


def test_variables_are_put_in_their_places() -> None:
    environment = {"HOST": "pc.example.com", "EMPTY": "", "NESTED": "${HOST} $$"}
    found = read(
        "nutanix: {prism_central: '${HOST}:9440', username: 'a$$b$c', password: '${NESTED}',"
        " element_name: 'x${EMPTY}'}",
        environment,
    ).config.nutanix

    assert (found.prism_central, found.username, found.element_name) == ("pc.example.com:9440", "a$b$c", "x")
    assert found.password is not None
    assert found.password.get_secret_value() == "${HOST} $$"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("${HOMEE}", "f.yaml:2: nutanix.username: ${HOMEE}: the variable HOMEE is not set; nearest: HOME"),
        ("${XY_ZZY}", "f.yaml:2: nutanix.username: ${XY_ZZY}: the variable XY_ZZY is not set"),
        ("${}", "'${}' is no variable: write ${NAME}, or $$ for a dollar sign"),
        ("${a", "is no variable"),
        ("${a b}", "is no variable"),
        ("${BAD}", "what BAD hold has a character that cannot be shown"),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_used_is_named_with_its_line(text: str, line: str) -> None:
    found = refused(f"nutanix:\n  username: '{text}'\n", {"HOME": "/root", "BAD": "\x1b[31m"})

    assert len(found) == 1
    assert found[0].removesuffix("\n").startswith(line) or line in found[0]


def test_what_a_variable_holds_is_in_no_message() -> None:
    found = refused(
        "nutanix: {prism_central: '${SECRET}', cluster_uuid: '${SECRET}', timeout: '${SECRET}', api: '${SECRET}'}",
        {"SECRET": "hush hush'"},
    )

    assert len(found) == 4
    assert "hush" not in "".join(found)
    assert any("${SECRET}" in each for each in found)


def test_relative_paths_begin_at_the_folder_of_the_file() -> None:
    found = read("backup: {repository: points}\nnutanix: {prism_central: pc, username: u, ca_file: /x/ca}").config

    assert (found.backup.repository, found.nutanix.ca_file) == ("/etc/points", "/x/ca")


def test_so_does_the_program_of_a_hook_but_not_a_name_that_is_looked_for() -> None:
    hooks = "{start: [./tell, ./a], success: [tell, ./a], failure: [/bin/tell]}"

    found = read(job(f"{{name: a, vms: [x], every: 1h, hooks: {hooks}}}")).config.jobs[0].hooks

    assert found.start == ("/etc/tell", "./a")
    assert (found.success, found.failure) == (("tell", "./a"), ("/bin/tell",))


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path, Path("a\0b")):
        with pytest.raises(OptionsError) as raised:
            load(path)
        assert "\n" not in str(raised.value)


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    assert (
        read(b"\xef\xbb\xbfnutanix:\r\n  api: v4\r\n  prism_central: a\r\n  username: u\r\n").config.nutanix.api == "v4"
    )
