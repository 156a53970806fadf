"""`ntx agent install`, `unit` and `uninstall` as a person gives them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ntxengine import __version__
from ntxengine.deploy.install import Installation, InstallOptions
from ntxengine.deploy.places import Places
from ntxengine.deploy.release import open_release
from tests.cli.ntx import ntx
from tests.cli.test_json import problems
from tests.deploy.releases import CONFIG, fill, make_release, write_sums
from tests.support.booted import ROOT, python_there


def write_config(folder: Path) -> Path:
    file = folder / "agent.yaml"
    file.write_text(CONFIG.replace('"${PRISM_PASSWORD}"', "secret"))
    return file


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(tmp_path: Path) -> None:
    release, root = make_release(tmp_path / "release", __version__), tmp_path / "root"
    given = ("--from", release, "--config", write_config(tmp_path), "--root", root, "--python", python_there())

    said = ntx("agent", "install", *given, "--dry-run")
    as_json = ntx("agent", "install", *given, "--dry-run", "--json")

    assert said.code == 0, said.err
    assert said.out.splitlines()[0].startswith("would make /opt/ntx/versions/")
    assert "would write /etc/systemd/system/ntx-agent.service" in said.out
    assert "to do: make the repository's folder" in said.out
    told = json.loads(as_json.out)
    assert problems(told, "agent-install.json") == []
    assert (told["version"], told["before"], told["dry_run"]) == (__version__, None, True)
    assert len(told["changes"]) == 5
    assert not root.exists()


def test_what_a_removal_removes_is_told(tmp_path: Path) -> None:
    release, root = make_release(tmp_path / "release", __version__), tmp_path / "root"
    options = InstallOptions(python=python_there())
    Installation(Places(root), open_release(release), options, fill=fill).run()

    would = ntx("agent", "uninstall", "--root", root, "--dry-run")
    did = ntx("agent", "uninstall", "--root", root, "--json")

    assert "would remove /etc/systemd/system/ntx-agent.service" in would.out
    assert problems(json.loads(did.out), "agent-uninstall.json") == []
    assert "/opt/ntx/current" in json.loads(did.out)["removed"]
    assert not (root / "opt/ntx").exists()


def test_a_release_of_another_version_installs_itself_with_the_same_options(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", "9.9")
    (release / "install.sh").write_text('echo "9.9:" "$@"\n')
    write_sums(release)

    ran = ntx("agent", "install", "--from", release, "--root", tmp_path / "a root", "--no-start", "-n", "--json")

    assert ran.code == 0, ran.err
    assert ran.out == f"9.9: --prefix=/opt/ntx --user=ntx --root={tmp_path}/a root --no-start --dry-run --json\n"


def test_what_cannot_be_installed_ends_with_one_line_and_its_exit_code(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", __version__)
    config = write_config(tmp_path)
    common = ("--root", tmp_path / "root", "--python", python_there())
    config.write_text(config.read_text().replace("every:", "evry:"))

    wrong_config = ntx("agent", "install", "--from", release, "--config", config, *common)
    wrong_user = ntx("agent", "install", "--from", release, "--user", "Not a user", *common)
    (release / "VERSION").write_text("0.0\n")
    damaged = ntx("agent", "install", "--from", release, *common)
    nothing = ntx("agent", "uninstall", "--root", tmp_path)

    assert (wrong_config.code, wrong_user.code, damaged.code, nothing.code) == (2, 2, 2, 10)
    assert "evry" in wrong_config.err
    assert "'Not a user' is no name of a user" in wrong_user.err
    assert "is not what SHA256SUMS says" in damaged.err
    assert "nothing is installed at" in nothing.err
    assert len(damaged.err.splitlines()) == 1


def test_the_unit_names_this_ntx_and_what_the_configuration_needs(tmp_path: Path) -> None:
    config = write_config(tmp_path)

    plain = ntx("agent", "unit")
    filled = ntx("agent", "unit", "--config", config, "--user", "backup", "--ntx", "/usr/bin/ntx")

    assert "ExecStart=" in plain.out
    assert " agent --config /etc/ntx/agent.yaml\n" in plain.out
    assert f"ExecStart=/usr/bin/ntx agent --config {config}\n" in filled.out
    assert "User=backup\n" in filled.out
    assert "ReadWritePaths=-/backups\n" in filled.out


def test_the_script_of_a_release_is_right_for_the_shell_and_checks_the_release_first(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", "1.0")
    (release / "install.sh").write_text((ROOT / "src/ntxengine/deploy/files/install.sh").read_text())
    (release / "VERSION").write_text("changed\n")

    syntax = subprocess.run(["sh", "-n", release / "install.sh"], capture_output=True, check=False)
    ran = subprocess.run(["sh", release / "install.sh"], capture_output=True, text=True, check=False)

    assert syntax.returncode == 0
    assert ran.returncode == 2
    assert "copy the release again, whole" in ran.stderr
