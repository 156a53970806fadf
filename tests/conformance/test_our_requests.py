"""What we send to v4 is what Nutanix's SDKs would send: paths, queries, headers, bodies; what we get, they read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.conformance.exchanges import Exchange

DOCUMENT = Path(__file__).parents[2] / "docs" / "prism.md"


def test_every_exchange_is_one_that_the_sdks_know_and_read(judged: dict[str, Any]) -> None:
    wrong = [
        f"{exchange['method']} {exchange['path']}: {verdict['operation']}: {problem}"
        for exchange, verdict in judged["seen"]
        for problem in verdict["problems"]
    ]

    assert wrong == []


def test_the_judge_finds_what_is_wrong(judged: dict[str, Any]) -> None:
    for expected, verdict in judged["spoiled"].items():
        assert any(expected in problem for problem in verdict["problems"]), (expected, verdict)


def test_every_judge_that_the_table_names_has_judged(judged: dict[str, Any]) -> None:
    named = set(re.findall(r"\| SDK `(\w+\.\w+)` \|", DOCUMENT.read_text()))

    assert {verdict["operation"] for _, verdict in judged["seen"]} == named


def test_what_changes_a_vm_names_the_version_that_was_read(v4_exchanges: list[Exchange]) -> None:
    removed = [one for one in v4_exchanges if one.method == "DELETE" and "/disks/" in one.path]

    assert len(removed) == 2
    assert all(one.headers["if-match"] for one in removed)


def test_the_password_stays_at_prism_central(v4_exchanges: list[Exchange]) -> None:
    computed = [one for one in v4_exchanges if one.path.endswith("compute-changed-regions")]

    assert computed
    assert not any("authorization" in one.headers for one in computed)
