"""What each part of a file of configuration is as an option, and for which commands; and where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ntxengine.cli.file_settings import CAPTURE, EXPORT, FREEZING, Setting, settings
from ntxengine.config.reading import load

CLUSTER = "nutanix: {prism_central: pc, username: u}\n"


def told(folder: Path, text: str, profile: str | None = None) -> dict[str, Setting]:
    """Return what a file says, by option."""
    file = folder / "agent.yaml"
    file.write_text(text)
    config = load(file).config
    over = None if profile is None else config.profiles[profile]
    return {each.option: each for each in settings(config.with_profile(profile), over, profile)}


def test_what_a_profile_says_stands_there_and_all_else_where_it_did(tmp_path: Path) -> None:
    text = (
        CLUSTER + "backup: {repository: /a, worker: w}\nperformance: {bandwidth: 5M}\n"
        "profiles: {lab: {backup: {repository: /b}, performance: {}}, other: {backup: {worker: v}}}\n"
    )

    lab, without = told(tmp_path, text, "lab"), told(tmp_path, text)

    assert (str(lab["--repository"].value), lab["--repository"].path) == (
        "/b",
        ("profiles", "lab", "backup", "repository"),
    )
    assert (lab["--worker"].value, lab["--worker"].path) == ("w", ("backup", "worker"))
    assert lab["--bandwidth"].path == ("performance", "bandwidth")
    assert lab["--username"].path == ("nutanix", "username")
    assert (str(without["--repository"].value), without["--repository"].path) == ("/a", ("backup", "repository"))


@pytest.mark.parametrize(
    ("text", "option", "value", "commands"),
    [
        ("backup: {snapshot_retention_hours: 36}", "--keep-recovery-point", "36h", FREEZING),
        ("backup: {consistency: application}", "--consistency", "app", FREEZING),
        ("backup: {vss: full}", "--vss", "full", FREEZING),
        ("backup: {verify: false}", "--no-verify", True, FREEZING),
        ("backup: {verify: true}", "--no-verify", False, FREEZING),
        ("backup: {volume_groups: false}", "--no-volume-groups", True, FREEZING),
        ("backup: {zstd_level: 5}", "--compress", "zstd:5", CAPTURE),
        ("performance: {max_concurrent_vms: 3}", "--vms", 3, CAPTURE),
        ("performance: {bandwidth_limit_mbps: 8}", "--bandwidth", "1000000", None),
        ("tunnel: {control_plane_host: cp}", "--tunnel", "ssh://cp:22", EXPORT),
        (
            "tunnel: {control_plane_host: 'fd00::1', user: ntx, tunnel_port: 2022}",
            "--tunnel",
            "ssh://ntx@[fd00::1]:2022",
            EXPORT,
        ),
    ],
)
def test_what_the_file_says_is_this_option_of_these_commands(
    tmp_path: Path, text: str, option: str, value: Any, commands: frozenset[str] | None
) -> None:
    found = told(tmp_path, CLUSTER + text)[option]

    assert (found.value, found.commands) == (value, commands)


def test_what_is_lost_is_scanned_for_by_no_export(tmp_path: Path) -> None:
    by_choice = {
        choice: told(tmp_path, f"{CLUSTER}backup: {{on_lost_tracking: {choice}}}") for choice in ("scan", "full")
    }

    assert by_choice["scan"]["--on-lost-tracking"].commands == CAPTURE | {"replicate", "cutover"}
    assert by_choice["full"]["--on-lost-tracking"].commands == EXPORT


def test_a_file_that_says_nothing_gives_no_option(tmp_path: Path) -> None:
    assert set(told(tmp_path, CLUSTER)) == {"--prism", "--username"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("prism_central: pc, username: u", {"--prism": "https://pc", "--username": "u"}),
        ("prism_element: pe, username: u", {"--prism": "https://pe", "--username": "u"}),
        # Beside a Prism Central: with an account of its own, or the same.
        (
            "prism_central: pc, prism_element: pe, username: u",
            {"--prism": "https://pc", "--username": "u", "--element": "https://pe", "--element-username": "u"},
        ),
        (
            "prism_central: pc, prism_element: pe, username: u, element_username: e, element_password_file: /p",
            {
                "--prism": "https://pc",
                "--username": "u",
                "--element": "https://pe",
                "--element-username": "e",
                "--element-password-file": "/p",
            },
        ),
    ],
)
def test_addresses_and_accounts_are_these(tmp_path: Path, text: str, options: dict[str, str]) -> None:
    found = told(tmp_path, f"nutanix: {{{text}}}")

    assert {name: str(each.value).removesuffix(":9440") for name, each in found.items()} == options
