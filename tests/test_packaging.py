"""The files for systemd, Prometheus and Grafana fit the worker."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from real_worker import ROOT, RealWorker, binary, command

PACKAGING = ROOT / "packaging"
UNIT = PACKAGING / "systemd/ovis-worker.service"
OTHERS = {"up"}
"""Metrics that Prometheus itself adds."""
FUNCTIONS = {"sum", "by", "rate", "increase", "resets", "histogram_quantile"}


@pytest.fixture
def served(worker: RealWorker) -> dict[str, set[str]]:
    """The names of all samples, each with its labels."""
    samples: dict[str, set[str]] = {}
    for line in worker.get("/metrics")[1].splitlines():
        if not line.startswith("#"):
            name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()
            samples.setdefault(name, set()).update(re.findall(r'(\w+)="', labels or ""))
    return samples


def dashboard() -> dict:
    return json.loads((PACKAGING / "grafana/ovis-worker.json").read_text(encoding="utf-8"))


def panels() -> list[dict]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict]:
    text = (PACKAGING / "prometheus/ovis-worker.rules.yml").read_text(encoding="utf-8")
    (group,) = yaml.safe_load(text)["groups"]
    return group["rules"]


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (rule["expr"] for rule in rules())


def words(expression: str) -> set[str]:
    """The names in an expression, without labels, texts, durations and functions."""
    text = re.sub(r'"[^"]*"|\[[^\]]*\]|\bby \([^)]*\)', " ", expression)
    text = re.sub(r"\{[^}]*\}", " ", text)
    return set(re.findall(r"\b[a-z_]\w*", text)) - FUNCTIONS


def test_every_expression_asks_for_metrics_and_labels_that_are_there(served) -> None:
    for expression in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression
        names = words(expression)
        assert names and names <= served.keys() | OTHERS, expression
        known = {"instance", "job", "le"}.union(*(served.get(name, set()) for name in names))
        asked = set(re.findall(r"(\w+)=~?\"", expression))
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            asked |= set(re.split(r",\s*", group))
        assert asked <= known, expression


def test_values_of_labels_that_alerts_ask_for_exist(worker: RealWorker) -> None:
    text = worker.get("/metrics")[1]
    asked = [
        (label, value)
        for rule in rules()
        for label, values in re.findall(r'\b(code|reason)=~?"([^"]*)"', rule["expr"])
        for value in values.split("|")
    ]
    assert asked
    for label, value in asked:
        assert f'{label}="{value}"' in text


def test_the_dashboard_shows_every_metric(served) -> None:
    shown = {re.sub(r"_bucket$", "", name) for e in expressions() for name in words(e)}
    metrics = {re.sub(r"_(bucket|sum|count)$", "", name) for name in served}
    assert metrics - shown == set()


def test_the_dashboard_asks_which_data_source_to_use() -> None:
    variables = {one["name"]: one for one in dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"])
    # No two panels lie on each other.
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard()["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) == 23


def test_each_alert_says_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 4
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "$labels.instance" in rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert "for" not in rule or re.fullmatch(r"\d+[smh]", rule["for"])


def test_prometheus_scrapes_with_a_token_over_tls() -> None:
    text = (PACKAGING / "prometheus/ovis-worker.yml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert [PACKAGING / "prometheus" / name for name in config["rule_files"]] == [
        PACKAGING / "prometheus/ovis-worker.rules.yml"
    ]
    (scrape,) = config["scrape_configs"]
    assert (scrape["scheme"], scrape["metrics_path"]) == ("https", "/metrics")
    assert scrape["authorization"]["type"] == "Bearer"
    assert scrape["authorization"].keys() == {"type", "credentials_file"}
    assert not scrape["tls_config"].get("insecure_skip_verify")
    # The alert of a worker that is gone names this job.
    assert any(f'up{{job="{scrape["job_name"]}"}}' in rule["expr"] for rule in rules())


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


def test_the_service_is_started_again_when_that_helps() -> None:
    service = unit()["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartForceExitStatus"] == "75"
    assert service["RestartPreventExitStatus"] == "2 98"
    program, *arguments = service["ExecStart"].split()
    assert Path(program).name == "ovis-worker" and arguments[0] == "serve"
    folder = arguments[arguments.index("--state-dir") + 1]
    assert folder == f"/var/lib/{service['StateDirectory']}"
    known = command("serve", help=True).stdout
    assert all(one in known for one in arguments if one.startswith("--"))
    for broken in ("PrivateDevices", "ProtectClock", "MemoryDenyWriteExecute", "ProcSubset"):
        assert broken not in service, f"{broken} stops a GPU's driver"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_the_service(tmp_path: Path) -> None:
    """It also checks that the program exists, so it gets the one of the tests."""
    program = unit()["Service"]["ExecStart"].split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding="utf-8").replace(program, str(binary())))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, UNIT.name in result.stderr) == (0, False), result.stderr
