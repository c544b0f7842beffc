"""The manual has every metric, and what reads them asks for none that is not there.

`ACCEPT=1 pytest tests/unit/test_docs_metrics.py` rewrites the table of the page.
"""

import json
import os
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
import yaml

from gitops_mvd.metrics.names import HISTOGRAM, METRICS, Metric
from tests.unit.reference_page import DOCS

PAGE = DOCS / "operations.md"
HEAD = "| metric | labels | what it is |\n|---|---|---|\n"
TABLE = re.compile(f"(?s){re.escape(HEAD)}(.*?)\n\n?(?=\n|Beside)")
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
OF_PROMETHEUS = {"up"}


def samples_of(metric: Metric) -> tuple[str, ...]:
    """The names of its series."""
    ends = ("_bucket", "_sum", "_count") if metric.kind == HISTOGRAM else ("",)
    return tuple(f"{metric.name}{end}" for end in ends)


def test_every_metric_is_in_the_manual() -> None:
    rows = "\n".join(f"| `{it.name}` | {', '.join(f'`{name}`' for name in it.labels)} | {it.what} |" for it in METRICS)
    if os.environ.get("ACCEPT"):
        PAGE.write_text(TABLE.sub(lambda _: f"{HEAD}{rows}\n\n", PAGE.read_text()))
    assert f"{HEAD}{rows}\n\n" in PAGE.read_text()


@pytest.mark.parametrize("name", ["dashboard.json", "rules.yaml"])
def test_what_is_asked_for_is_exported_with_the_labels_that_are_asked_for(name: str) -> None:
    known = {series: it for it in METRICS for series in samples_of(it)}
    expressions = list(asked(name))
    assert len(expressions) > 10
    for expression in expressions:
        names = set(re.findall(r"\b(?:mvd|process|up)(?:_[a-z_]+)?\b(?=[ {)]|\[|$)", expression))
        assert names, expression
        assert names - known.keys() - PROCESS - OF_PROMETHEUS == set(), expression
        labels = {label for it in names & known.keys() for label in known[it].labels} | {"instance", "job", "le"}
        matched = re.findall(r"([a-z_]+)=~?\"|([a-z_]+)!=\"", expression)
        grouped = re.findall(r"\b(?:by|on) \(([a-z_, ]+)\)", expression)
        given = {one or other for one, other in matched} | {it for group in grouped for it in group.split(", ")}
        assert given <= labels, expression


def test_the_labels_that_alerts_speak_of_are_those_of_their_metrics() -> None:
    known = {series: set(it.labels) for it in METRICS for series in samples_of(it)}
    for group in rules()["groups"]:
        for rule in group["rules"]:
            names = [it for it in known if re.search(rf"\b{it}\b", rule["expr"])]
            there = set().union(*(known[it] for it in names)) | {"instance", "job"}
            text = " ".join(rule["annotations"].values())
            assert set(re.findall(r"\$labels\.([a-z]+)", text)) <= there, rule["alert"]


def rules() -> Any:
    return yaml.safe_load(resources.files("gitops_mvd.metrics").joinpath("rules.yaml").read_text())


def asked(name: str) -> Iterator[str]:
    """The expressions in a file, without the variables of Grafana."""
    if name == "rules.yaml":
        yield from (rule["expr"] for group in rules()["groups"] for rule in group["rules"])
        return
    board = json.loads(resources.files("gitops_mvd.metrics").joinpath(name).read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel.get("targets", ()))
    yield from (it["expr"] for it in board["annotations"]["list"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), [a-z]+\)", r"\1", variable["query"]["query"])
