"""A real Prometheus, with the alert rules of the package, at a real server: what is deployed, broken and repaired."""

from __future__ import annotations

import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.stories import HEALTH, Story, eventually, manifest, routed, write_settings
from tests.lab import service
from tests.lab.engine import LabUnavailable
from tests.lab.lab import Lab
from tests.lab.prometheus import programs
from tests.lab.stage import SETTINGS, until
from tests.unit.test_docs_metrics import asked

pytestmark = pytest.mark.lab

PORT = 9105
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: gitops-mvd
    static_configs: [{{targets: ["{at}"]}}]
"""
VARIABLES = {"$instance": ".*", "$app": ".*", "$__rate_interval": "1m"}


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, asked by its own API."""

    url: str

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, each with its labels in `metric` and its value in `value`."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}", timeout=10)
        told = answer.json()
        assert told["status"] == "success", f"{expression}: {told.get('error')}"
        return list(told["data"]["result"])

    def sees(self, expression: str, within: float = 60) -> list[dict[str, Any]]:
        """Wait until a query has a result, and return it."""
        return until(lambda: self.ask(expression) or None, expression, within)

    def sees_no_more(self, expression: str, within: float = 60) -> None:
        eventually(f"the end of {expression}", lambda: not self.ask(expression), within)


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("measured", "1", service.web("measured", "1"))


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/measured")
    repository.commit({"README.md": "Measured\n"}, "Begin")
    server = lab.server("measured", release=lab.limiting)
    story = Story.set_up(lab, server, repository)
    write_settings(story, f"{story.run('cat', SETTINGS)}metrics: {{listen: '0.0.0.0:{PORT}'}}\n", "listening for Prom")
    yield story
    server.destroy()


@pytest.fixture(scope="module")
def prometheus(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The alert rules are those of the package, but that they wait for seconds in place of minutes."""
    try:
        program = programs(lambda line: None)["prometheus"]
    except LabUnavailable as why:
        pytest.skip(f"no Prometheus: {why}")
    folder = tmp_path_factory.mktemp("prometheus")
    rules = resources.files("gitops_mvd.metrics").joinpath("rules.yaml").read_text()
    (folder / "rules.yaml").write_text(re.sub(r"for: (\d+)m", r"for: \1s", rules))
    (folder / "prometheus.yaml").write_text(CONFIG.format(at=f"{story.server.ip}:{PORT}"))
    with running(program, folder) as started:
        started.sees('up{job="gitops-mvd"} == 1')
        yield started


@contextmanager
def running(program: str, folder: Path) -> Iterator[Prometheus]:
    """Prometheus, until the end of the block; it chooses its port."""
    options = (f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data")
    log = folder / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            (program, *options, "--web.listen-address=127.0.0.1:0"), stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            found = until(lambda: re.search(r"127\.0\.0\.1:([1-9]\d*)", log.read_text()), "its port", 30)
            yield Prometheus(f"http://127.0.0.1:{found[1]}")
        finally:
            process.terminate()


def shop(image: str, **health: str) -> dict[str, Any]:
    return {
        "services": {"web": routed(image, "/shop", **{"x-mvd": {"health": {**HEALTH, "interval": "2s", **health}}})}
    }


def test_a_deploy_is_seen_with_its_commit_times_and_containers(
    story: Story, prometheus: Prometheus, image: str
) -> None:
    commit = story.deploy("shop", shop(image))
    prometheus.sees('mvd_app_health{app="shop", health="Healthy"} == 1')
    [service_] = prometheus.sees('mvd_service_info{app="shop", service="web"}')
    assert (service_["metric"]["revision"], service_["metric"]["image"]) == (commit, image)
    prometheus.sees('mvd_service_ready{app="shop"} == 1 and mvd_service_desired{app="shop"} == 1')
    [merged] = prometheus.sees("mvd_merge_to_healthy_seconds_sum > 0 and mvd_merge_to_healthy_seconds_count >= 1")
    assert float(merged["value"][1]) < 180
    prometheus.sees("mvd_gate_duration_seconds_count >= 1")
    prometheus.sees('mvd_phase_duration_seconds_count{phase="apply"} >= 1')
    prometheus.sees('mvd_container_memory_bytes{app="shop", service="web"} > 100000')
    prometheus.sees('mvd_container_cpu_seconds_total{app="shop", service="web"} > 0')
    prometheus.sees('mvd_status_deliveries_total{forge="github", outcome="posted"} >= 1')


def test_a_deploy_that_is_rolled_back_is_counted_and_alerts(story: Story, prometheus: Prometheus, image: str) -> None:
    commit = story.merge(manifest("shop", shop(image, http="/nowhere", within="5s")), "Break shop")
    story.ends(commit, "failure")
    prometheus.sees('mvd_failures_total{class="version"} == 1')
    prometheus.sees('mvd_operations_total{app="shop", operation="RolledBack"} == 1')
    prometheus.sees('ALERTS{alertname="MvdDeployFailed", alertstate="firing", app="shop", operation="RolledBack"}')
    story.ends(story.revert(commit), "success")
    prometheus.sees_no_more('ALERTS{alertname="MvdDeployFailed"}')


def test_what_is_repaired_and_what_is_started_again_is_counted(story: Story, prometheus: Prometheus) -> None:
    [name] = story.containers("shop")
    story.run("docker", "kill", name)
    prometheus.sees(f'mvd_container_restarts_total{{container="{name}"}} == 1')
    [before] = prometheus.sees("mvd_drift_repairs_total")
    story.run("docker", "rm", "--force", name)
    prometheus.sees(f"mvd_drift_repairs_total > {before['value'][1]}")
    story.look_again()
    prometheus.sees('mvd_container_memory_bytes{app="shop"} > 0 and on (app) mvd_app_health{health="Healthy"} == 1')


def test_an_app_that_falls_ill_alerts_and_no_more_once_it_is_well(story: Story, prometheus: Prometheus) -> None:
    [name] = story.containers("shop")
    story.run("docker", "exec", name, "sh", "-c", "mv /www/health /www/away")
    firing = 'ALERTS{alertname="MvdAppUnhealthy", alertstate="firing", app="shop", health="Degraded"}'
    prometheus.sees(firing, 90)
    story.run("docker", "exec", name, "sh", "-c", "mv /www/away /www/health")
    prometheus.sees_no_more(firing, 90)
    prometheus.sees('mvd_app_health{app="shop", health="Healthy"} == 1')


def test_every_query_of_the_dashboard_and_of_the_rules_is_answered(prometheus: Prometheus) -> None:
    empty = []
    for expression in (*asked("dashboard.json"), *asked("rules.yaml")):
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        if not prometheus.ask(expression) and not re.search(r"[><=!]=? ?[\d(.]|==|<|>", expression):
            empty.append(expression)
    assert [it for it in empty if "rate_limit" not in it] == []


def test_the_series_of_an_app_go_with_it(story: Story, prometheus: Prometheus, image: str) -> None:
    story.deploy("other", {"services": {"web": {"image": image}}})
    prometheus.sees('mvd_app_health{app="other", health="Healthy"} == 1')
    assert prometheus.ask('{app="shop"}')
    story.remove("shop")
    prometheus.sees_no_more('{__name__=~"mvd_.*", app="shop"}')
    prometheus.sees("mvd_pruned_resources_total > 0")


def test_a_scrape_needs_no_root_and_tells_nothing_secret(story: Story) -> None:
    said = story.run("curl", "-sS", "-m", "10", f"http://127.0.0.1:{PORT}/metrics")
    token = story.run("cat", "/etc/gitops-mvd/token").strip()
    assert token
    assert token not in said
    assert said.count("# HELP mvd_") > 30
    assert "the loop is at work" in story.run("curl", "-sS", "-m", "10", f"http://127.0.0.1:{PORT}/healthz")
