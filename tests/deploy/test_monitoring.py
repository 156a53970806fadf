"""The dashboard and the alerts: Prometheus understands them, each alert and metric is real."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.booted import ROOT
from tests.support.servers import require

RULES = ROOT / "docs/alerts/ntx-agent.rules.yml"
DASHBOARD = ROOT / "docs/grafana/ntx-agent.json"
METRIC = re.compile(r"\bntx_[a-z_]+")
ENDINGS = {
    "_counter": ("_total",),
    "Counter": ("_total",),
    "CounterMetricFamily": ("_total",),
    "Histogram": ("_bucket", "_sum", "_count"),
    "GaugeMetricFamily": ("",),
    "Gauge": ("",),
    "InfoMetricFamily": ("_info",),
}


def metrics_of_the_agent() -> set[str]:
    """Return the names of all series that the agent makes, from the calls that make them."""
    found = set()
    for path in (ROOT / "src/ntxengine/agent").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            called, name = ast.unparse(node.func).rpartition(".")[2], node.args[0].value
            if isinstance(name, str) and name.startswith("ntx_agent"):
                found |= {name + ending for ending in ENDINGS.get(called, ())}
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def expressions() -> Iterator[str]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$instance", ".*").replace("$job", ".*")


def run_promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    require("promtool")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def write_tests(folder: Path, rules: Path) -> Path:
    tests = folder / "alerts.test.yml"
    tests.write_text((Path(__file__).parent / "alerts.test.yml").read_text().replace("RULES", str(rules)))
    return tests


def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else(tmp_path: Path) -> None:
    checked = run_promtool("check", "rules", "--lint-fatal", RULES)
    tested = run_promtool("test", "rules", write_tests(tmp_path, RULES))

    assert checked.returncode == 0, checked.stderr
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_is_tested(tmp_path: Path) -> None:
    alerts = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    tests = (Path(__file__).parent / "alerts.test.yml").read_text()

    for alert in alerts:
        assert f"{alert['alert']}" in tests
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} == set(alert["annotations"])


@pytest.mark.parametrize("name", ["NtxAnomaly", "NtxVmNeverCaptured"])
def test_the_tests_notice_an_alert_that_is_never_raised(tmp_path: Path, name: str) -> None:
    document = yaml.safe_load(RULES.read_text())
    for rule in document["groups"][0]["rules"]:
        if rule["alert"] == name:
            rule["expr"] = "ntx_agent_info > 1e9"
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(document))

    assert run_promtool("test", "rules", write_tests(tmp_path, rules)).returncode != 0


def test_prometheus_understands_each_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"ntx:{number}", "expr": text} for number, text in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    checked = run_promtool("check", "rules", file)

    assert len(rules) > 15
    assert checked.returncode == 0, checked.stderr


def test_metrics_of_dashboard_and_alerts_exist() -> None:
    known = metrics_of_the_agent()
    named = {name for text in expressions() for name in METRIC.findall(text)}
    named |= {
        name
        for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
        for name in METRIC.findall(rule["expr"])
    }
    variables = {name for each in dashboard()["templating"]["list"] for name in METRIC.findall(str(each["query"]))}

    assert "ntx_agent_runs_total" in known
    assert named | variables <= known
    # What is told is shown, but for what stands behind what is shown.
    assert known - named - variables <= {
        "ntx_agent_run_seconds_sum",
        "ntx_agent_run_seconds_count",
        "ntx_agent_objective_seconds",
    }


def test_metrics_that_are_described_exist_and_all_are_described() -> None:
    document = (ROOT / "docs/agent.md").read_text()
    described = set(METRIC.findall(document))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metrics_of_the_agent()}

    assert families == {name for name in described if name.startswith("ntx_agent_")}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in panels()]
    taken: set[tuple[int, int]] = set()

    assert len(set(ids)) == len(ids)
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_labels_of_the_agent_reach_prometheus_as_they_are() -> None:
    # A label `job` of a metric would become `exported_job`, as each target has one of that name.
    for document in ("agent.md", "deploy.md"):
        for block in re.findall(r"```yaml\n(scrape_configs:.*?)```", (ROOT / "docs" / document).read_text(), re.DOTALL):
            assert all(each["honor_labels"] is True for each in yaml.safe_load(block)["scrape_configs"])
