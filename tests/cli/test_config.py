"""`ntx config`, and `ntx --config FILE COMMAND`: what the file says are defaults, and no secret gets about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ntxengine.sim import Simulator
from tests.cli.ntx import Ran, assert_refused, environment, ntx
from tests.cli.test_json import problems
from tests.config.seed import ENVIRONMENT, PASSWORD, SEED


def written(folder: Path, text: str, name: str = "agent.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def of_cluster(sim: Simulator, *, more: str = "") -> str:
    """The section that reaches a simulator, with the password in the file itself."""
    password = (sim.state_dir / "password").read_text().strip()
    return (
        f"nutanix:\n  prism_central: {sim.central_url}\n  username: {sim.username}\n  password: {password}\n"
        f"  ca_file: {sim.ca_file}\n{more}"
    )


# -------------------------------------------------------------------------------------------------------- ntx config


def test_check_says_every_mistake_and_ends_with_2(tmp_path: Path) -> None:
    file = written(tmp_path, "nutanix:\n  prism_centrall: x\n  username: u\nagnet:\n")

    ran = ntx("config", "check", file)

    assert ran.code == 2
    assert ran.out.splitlines() == [
        f"{file}:2: nutanix.prism_centrall: unknown key; nearest: prism_central",
        f"{file}:4: agnet: unknown key; nearest: agent",
        f"{file}: 2 mistakes",
    ]
    assert ran.err == ""


def test_check_takes_the_seed_and_warns_of_files_that_are_not_there(tmp_path: Path) -> None:
    file = written(tmp_path, SEED)

    ran = ntx("config", "check", file, env=ENVIRONMENT)
    quiet = ntx("config", "check", file, "-q", env=ENVIRONMENT)

    assert (ran.code, ran.out) == (0, f"{file}: no mistakes; 0 jobs\n")
    assert ran.err == (
        f"warning: {file}:22: tunnel.ssh_key_path: /opt/sendense/ssh/nutanix_tunnel_key is not on this machine\n"
    )
    assert (quiet.code, quiet.out) == (0, "")


def test_the_example_that_is_printed_checks_clean(tmp_path: Path) -> None:
    file = written(tmp_path, ntx("config", "example").out)

    ran = ntx("config", "check", file)

    assert (ran.code, ran.out, ran.err) == (0, f"{file}: no mistakes; 2 jobs\n", "")


def test_the_file_of_the_group_is_checked_and_shown(tmp_path: Path) -> None:
    file = written(tmp_path, "nutanix: {prism_central: p, username: u}\nprofiles: {lab: {nutanix: {username: v}}}")

    assert ntx("config", "check", env={"NTX_CONFIG": str(file)}).code == 0
    assert "username: u" in ntx("--config", file, "config", "show").out
    assert "username: v" in ntx("--config", file, "--profile", "lab", "config", "show").out
    assert_refused(ntx("--profile", "lba", "config", "show", file), 2, "'lba'", "nearest: lab")
    assert_refused(ntx("config", "check"), 2, "name a FILE")
    assert_refused(ntx("config", "check", tmp_path / "nothing"), 2, "No such file or directory")


def test_no_secret_is_printed(tmp_path: Path) -> None:
    file = written(tmp_path, SEED + "agent: {log: {level: '${NUTANIX_PASSWORD}'}}\n")
    right = written(tmp_path, SEED, "right.yaml")

    checked = ntx("config", "check", file, env=ENVIRONMENT)
    told = [
        checked,
        ntx("config", "check", file, "--json", "--debug", env=ENVIRONMENT),
        ntx("config", "show", right, env=ENVIRONMENT),
        ntx("config", "show", right, "--json", env=ENVIRONMENT),
        ntx("--config", file, "points", "--debug", env=ENVIRONMENT),
    ]

    assert "agent.log.level: '${NUTANIX_PASSWORD}' is none of" in checked.out
    assert not [each for each in told if PASSWORD in each.out + each.err]
    assert "password: '***'" in told[2].out


def test_json_is_as_its_schemas_say(tmp_path: Path) -> None:
    bad = written(tmp_path, "nutanix:\n  prism_centrall: x\n", "bad.yaml")
    good = written(tmp_path, ntx("config", "example").out)

    checked = [ntx("config", "check", each, "--json") for each in (bad, good)]
    shown = ntx("config", "show", good, "--json")

    assert [each.code for each in checked] == [2, 0]
    assert [problem for each in checked for problem in problems(each.json, "config-check.json")] == []
    assert checked[0].json["mistakes"][0] == {
        "line": 2,
        "column": 3,
        "key": "nutanix.prism_centrall",
        "message": "unknown key; nearest: prism_central",
    }
    assert problems(shown.json, "config-show.json") == []


def test_the_schema_is_json() -> None:
    assert json.loads(ntx("config", "schema").out)["title"] == "Configuration of ntx"


# ------------------------------------------------------------------------------------------------- ntx --config FILE


def test_the_file_says_where_the_cluster_is_and_who_we_are(cluster: Simulator, tmp_path: Path) -> None:
    file = written(tmp_path, of_cluster(cluster))

    by_option = ntx("--config", file, "vms", "--json")
    by_variable = ntx("vms", "--json", env={"NTX_CONFIG": str(file)})

    assert (by_option.code, by_option.err, by_variable.code) == (0, "", 0)
    assert "demo" in [vm["vm_name"] for vm in by_option.json["vms"]]


def test_a_capture_is_as_the_file_says(cluster: Simulator, tmp_path: Path) -> None:
    worker = f"  worker: {cluster.worker_id}\n" if cluster.worker_id else ""
    more = (
        f"backup:\n  repository: store\n  consistency: crash\n  snapshot_retention_hours: 24\n  zstd_level: 3\n{worker}"
        f"  device_dir: {cluster.world.layout.devices}\n  containers: {cluster.world.layout.containers}\n"
    )
    file = written(tmp_path, of_cluster(cluster, more=more))

    ran = ntx("--config", file, "capture", "demo", "--json")

    assert ran.code == 0, ran.err
    assert (tmp_path / "store" / "ntx-repository.json").exists()
    assert ran.json["consistency_requested"] == "crash"
    assert {disk["compression"] for disk in ran.json["report"]["disks"]} == {"zstd:3"}


def test_an_export_is_as_the_file_says(cluster: Simulator, tmp_path: Path) -> None:
    device = f"{cluster.world.layout.devices}"
    more = (
        f"backup:\n  consistency: crash\n  on_lost_tracking: scan\n  verify: no\n  worker: {cluster.worker_id}\n"
        f"  device_dir: {device}\n"
        "tunnel:\n  control_plane_host: cp.example\n  tunnel_port: 2222\n  user: ntx\n  ssh_key_path: key\n"
    )
    file = written(tmp_path, of_cluster(cluster, more=more))
    (tmp_path / "key").touch(mode=0o600)
    export = ("--config", file, "export", "demo", "--state", tmp_path / "state", "--notify", "https://cp.example/ntx")

    by_tunnel = ntx(*export, "--tunnel-folder", "/run/ntx", "--dry-run", "--json")
    without_folder = ntx(*export, "--dry-run")
    pem = ("--tls-ca", "ca.pem", "--tls-cert", "cert.pem", "--tls-key", "key.pem")
    by_ports = ntx(*export, "--ports", "10809-10899", "--advertise", "worker.example", *pem, "--dry-run", "--json")

    assert by_tunnel.code == 0, by_tunnel.err
    assert "ntx@cp.example:2222" in json.dumps(by_tunnel.json)
    assert by_tunnel.json["consistency"] == "crash"
    assert_refused(without_folder, 2, "--tunnel-folder DIR")
    assert by_ports.code == 0, by_ports.err
    assert "cp.example:2222" not in json.dumps(by_ports.json)


def test_option_wins_over_variable_over_file(tmp_path: Path) -> None:
    file = written(tmp_path, f"backup: {{repository: {tmp_path}/of-file}}")

    def missing(*arguments: str, **env: str) -> str:
        ran = ntx("--config", file, "points", *arguments, env=env)
        assert ran.code == 10
        return ran.err

    assert f"{tmp_path}/of-file" in missing()
    assert "/of-variable" in missing(NTX_REPOSITORY="/of-variable")
    assert "/of-option" in missing("--repository", "/of-option", NTX_REPOSITORY="/of-variable")


def test_an_error_in_a_value_of_the_file_says_where_it_is(tmp_path: Path) -> None:
    text = "nutanix:\n  prism_central: pc\n  username: u\n  ca_file: /no.pem\nbackup:\n  repository: /nowhere\n"
    file = written(tmp_path, text)

    assert_refused(ntx("--config", file, "vms"), 2, f"{file}:4: nutanix.ca_file", "/no.pem")
    assert_refused(ntx("--config", file, "points"), 10, f"({file}:6: backup.repository)")
    under = text + "profiles:\n  lab:\n    backup: {repository: /elsewhere}\n"
    file.write_text(under)
    assert_refused(ntx("--config", file, "--profile", "lab", "points"), 10, f"{file}:9: profiles.lab.backup.repository")


def test_a_bad_file_stops_a_command_in_one_line(tmp_path: Path) -> None:
    file = written(tmp_path, "a: 1\nb: 2\n")

    assert_refused(ntx("--config", file, "points"), 2, f"{file}:1: a: unknown key", "(and 1 more: ntx config check")
    assert_refused(ntx("--config", tmp_path / "no.yaml", "points"), 2, "No such file or directory")
    failed = ntx("--config", file, "points", "--json")
    assert problems(failed.json, "error.json") == []
    assert len(failed.json["error"]["problems"]) == 2


def test_a_profile_needs_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, "profiles: {lab: {backup: {repository: /lab}}}")

    assert_refused(ntx("--profile", "lab", "points"), 2, "--config")
    assert_refused(ntx("--config", file, "--profile", "lba", "points"), 2, "'lba'", "nearest: lab")
    assert "/lab" in ntx("points", env={"NTX_CONFIG": str(file), "NTX_PROFILE": "lab"}).err


def test_what_the_file_says_of_one_prism_goes_to_no_other(cluster: Simulator, tmp_path: Path) -> None:
    """Neither the account nor the password of the file, nor that its certificate is not checked."""
    file = written(tmp_path, of_cluster(cluster).replace("  ca_file", "  insecure: true\n  trust_file") + "  api: v4\n")

    other = ntx("--config", file, "vms", "--prism", "https://other.invalid")
    named = ntx("--config", file, "vms", "--prism", "https://other.invalid", "--username", "me")
    same = ntx("--config", file, "vms", "--prism", cluster.central_url)

    assert_refused(other, 2, "no user")
    assert_refused(named, 2, "no password")
    assert same.code == 0, same.err


def test_the_account_of_one_prism_element_goes_to_no_other(cluster: Simulator, tmp_path: Path) -> None:
    beside = "  prism_element: pe.invalid\n  element_username: admin\n  element_password: secret\n"
    file = written(tmp_path, of_cluster(cluster) + beside)

    other = ntx("--config", file, "vms", "--element", "https://other.invalid")
    named = ntx("--config", file, "vms", "--element", "https://other.invalid", "--element-username", "me")

    assert_refused(other, 2, "no user")
    assert_refused(named, 2, "no password")


@pytest.mark.parametrize("key", ["password", "password_file"])
def test_the_password_of_one_user_is_sent_for_no_other(cluster: Simulator, tmp_path: Path, key: str) -> None:
    secret = cluster.password if key == "password" else cluster.state_dir / "password"
    text = f"nutanix: {{prism_central: '{cluster.central_url}', username: {cluster.username}, {key}: '{secret}'}}"
    file = written(tmp_path, text)
    before = len(cluster.requests)

    other = ntx("--config", file, "vms", "--username", "eve", "--ca-file", cluster.ca_file)
    own = ntx("--config", file, "vms", "--username", cluster.username, "--ca-file", cluster.ca_file)
    given = ntx(
        "--config",
        file,
        "vms",
        "--username",
        cluster.username,
        "--ca-file",
        cluster.ca_file,
        env={"NTX_PASSWORD": "no"},
    )

    assert_refused(other, 2, f"no password ({file} has that of {cluster.username}, not of eve)", "--password-file")
    assert (own.code, given.code) == (0, 12)
    assert len(cluster.requests) > before


def test_the_password_of_the_prism_element_is_sent_for_no_other_user(cluster: Simulator, tmp_path: Path) -> None:
    account = f"username: {cluster.username}, password: '{cluster.password}'"
    places = f"prism_central: '{cluster.central_url}', prism_element: '{cluster.element_url}'"
    file = written(tmp_path, f"nutanix: {{{places}, {account}, element_password: x, ca_file: '{cluster.ca_file}'}}")

    ran = ntx("--config", file, "vms", "--api", "v3", "--element-username", "eve")

    assert_refused(
        ran, 2, f"no password ({file} has that of {cluster.username}, not of eve)", "--element-password-file"
    )


def test_what_the_file_turns_on_is_turned_off_by_an_option(cluster: Simulator, tmp_path: Path) -> None:
    trust = "insecure: true, element_insecure: true"
    account = f"username: {cluster.username}, password: '{cluster.password}'"
    file = written(tmp_path, f"nutanix: {{prism_central: '{cluster.central_url}', {account}, {trust}}}")

    on = ntx("--config", file, "vms")
    off = ntx("--config", file, "vms", "--no-insecure", "--no-element-insecure")
    off_by_variable = ntx("--config", file, "vms", env={"NTX_INSECURE": "0"})

    assert (on.code, on.err.count("insecure: anybody")) == (0, 2)
    assert_refused(off, off.code, "certificate")
    assert "insecure: anybody" not in off.err
    assert off_by_variable.code == off.code


def test_the_password_is_neither_in_arguments_nor_in_the_environment(cluster: Simulator, tmp_path: Path) -> None:
    file = written(tmp_path, of_cluster(cluster))
    password = (cluster.state_dir / "password").read_text().strip()
    program = (
        "import os, sys\n"
        "from ntxengine.cli import cluster\n"
        "from ntxengine.cli.main import main\n"
        "def looked(options, screen, login=cluster.login):\n"
        "    found = login(options, screen)\n"
        "    print(open('/proc/self/cmdline').read(), dict(os.environ), sys.argv, options, file=sys.stderr)\n"
        "    return found\n"
        "cluster.login = looked\n"
        "main(sys.argv[1:])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, "--config", str(file), "vms"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "demo" in done.stdout
    assert "--config" in done.stderr
    assert password not in done.stderr


def test_a_file_with_a_password_that_everybody_can_read_is_warned_of(cluster: Simulator, tmp_path: Path) -> None:
    file = written(tmp_path, of_cluster(cluster))
    file.chmod(0o644)
    line = (
        f"warning: {file}:4: nutanix.password: this file can be read by every user of this machine: chmod 600 {file}\n"
    )

    assert ntx("config", "check", file).err == line
    assert ntx("--config", file, "vms").err == line
    file.write_text(SEED)
    assert "every user" not in ntx("config", "check", file, env=ENVIRONMENT).err


def test_a_systemd_credential_is_the_password(cluster: Simulator, tmp_path: Path) -> None:
    password = (cluster.state_dir / "password").read_text()
    text = of_cluster(cluster).replace(f"  password: {password.strip()}\n", "")
    (tmp_path / "ntx-password").write_text(password)

    without = ntx("--config", written(tmp_path, text), "vms")
    ran = ntx("--config", tmp_path / "agent.yaml", "vms", env={"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert_refused(without, 2, "no password")
    assert ran.code == 0, ran.err


def test_commands_that_need_no_file_are_not_stopped_by_a_bad_one(tmp_path: Path) -> None:
    env = {"NTX_CONFIG": str(written(tmp_path, "a: 1\n"))}

    assert ntx("--help", env=env).code == 0
    assert ntx("completion", "bash", env=env).code == 0
    assert ntx("config", "check", env=env).code == 2


def run_python(code: str, **env: str) -> Ran:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(env), capture_output=True, text=True, check=False, timeout=60
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("arguments", [["config", "example"], ["--config", "/f.yaml", "points"]])
def test_what_is_not_installed_is_said_in_one_line(arguments: list[Any]) -> None:
    code = f"import sys; sys.modules['pydantic'] = None; from ntxengine.cli.main import main; main({arguments})"

    assert_refused(run_python(code), 1, "pydantic", "pip install 'ntxengine[agent]'")


@pytest.mark.parametrize("arguments", [["points", "--from", os.devnull], ["--help"], ["config", "--help"]])
def test_without_a_file_nothing_is_loaded_that_reads_one(arguments: list[str]) -> None:
    code = (
        f"import sys\nfrom ntxengine.cli.main import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules)"
    )

    loaded = set(run_python(code).out.split())

    assert "click" in loaded
    assert not loaded & {"pydantic", "yaml", "cronsim", "ntxengine.config"}
