"""What the example has for logs fits together: index template, dashboard, rsyslog, Logstash, and recorded lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops_mvd.cli.ecs import DATASET, Ecs

EXAMPLE = Path(__file__).parents[2] / "example-repo"
RECORDED = Path(__file__).parents[1] / "contract" / "recorded_logs"
TEMPLATE = json.loads((EXAMPLE / "apps/elasticsearch/index-template.json").read_text())
RSYSLOG = (EXAMPLE / "logs/rsyslog.conf").read_text()
LOGSTASH = (EXAMPLE / "apps/logstash/pipeline/logstash.conf").read_text()
OBJECTS = [json.loads(line) for line in (EXAMPLE / "apps/kibana/saved-objects.ndjson").read_text().splitlines()]
BY_ID = {(it["type"], it["id"]): it for it in OBJECTS}
FIELD = re.compile(r"\b(?:@timestamp|(?:labels|log|service|container|host|event|http|url|client|user|error)\.[a-z_.]+)")


def fields(mapping: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, field in mapping.get("properties", {}).items():
        if "type" in field:
            yield above + name
        yield from fields(field, f"{above}{name}.")


KNOWN = set(fields(TEMPLATE["template"]["mappings"]))


def inner(value: Any) -> Iterator[Any]:
    """All that is in a saved object, with the texts that are JSON themselves read."""
    match value:
        case dict():
            for name, it in value.items():
                yield from inner(json.loads(it) if name.endswith(("JSON", "visState")) else it)
        case list():
            for it in value:
                yield from inner(it)
        case _:
            yield value


def test_the_template_is_for_every_index_that_is_written_to() -> None:
    written = set(re.findall(r'set \$\.index = "(\w+)"', RSYSLOG))
    written |= set(re.findall(r'\[index\]" => "(\w+)"|\[index\]", "(\w+)"', LOGSTASH)[0]) - {""}
    patterns = {pattern.removesuffix("-*") for pattern in TEMPLATE["index_patterns"]}
    assert written == patterns == {"containers", "requests", "deploys"}


def test_what_rsyslog_writes_is_in_the_template() -> None:
    written = set(re.findall(r'outname="([^"]+)"', RSYSLOG))
    assert {"labels.app", "service.name", "container.name", "labels.revision", "host.name"} < written <= KNOWN


def test_what_logstash_writes_is_in_the_template_and_read_from_real_lines() -> None:
    written = {".".join(re.findall(r"\w+", path)) for path in re.findall(r'"((?:\[\w+\])+)" =>', LOGSTASH)}
    written |= {".".join(re.findall(r"\w+", path)) for path in re.findall(r'event\.set\("((?:\[\w+\])+)"', LOGSTASH)}
    renamed = dict(re.findall(r'"\[([^"]+)\]" => "((?:\[\w+\])+)"', LOGSTASH))
    written |= {".".join(re.findall(r"\w+", path)) for path in renamed.values()}
    assert {path for path in written if not path.startswith("metadata") and "." in path} - KNOWN - {
        "io.gitops.mvd",
    } == set()
    lines = [json.loads(line) for line in (RECORDED / "gelf.jsonl").read_text().splitlines()]
    assert lines
    for line in lines:
        read = {name.removeprefix("_") for name in line}  # as the input of Logstash strips it
        assert renamed.keys() <= read, "each field that is renamed is one that Docker's engine sends"


def test_what_is_taken_from_kong_is_in_the_line_that_kong_writes() -> None:
    line = json.loads((RECORDED / "kong-tcp-log.json").read_text())
    for path in re.findall(r"\$!kong!([\w!]+)", RSYSLOG):
        value: Any = line
        for name in path.split("!"):
            value = value[name]
        assert value
    for path in re.findall(r'kong\.dig\("(\w+)", "(\w+)"\)', LOGSTASH):
        assert line[path[0]][path[1]]


def test_the_dashboard_has_all_that_it_refers_to() -> None:
    assert {it["type"] for it in OBJECTS} == {"index-pattern", "visualization", "search", "dashboard"}
    assert len(BY_ID) == len(OBJECTS)
    for it in OBJECTS:
        assert it["attributes"]["title"]
        for reference in it["references"]:
            assert (reference["type"], reference["id"]) in BY_ID, it["id"]
        names = [reference["name"].rpartition(":")[2] for reference in it["references"]]
        wanted = [value for value in _named(it["attributes"])]
        assert sorted(names) == sorted(set(wanted)), it["id"]
    [dashboard] = [it for it in OBJECTS if it["type"] == "dashboard"]
    panels = json.loads(dashboard["attributes"]["panelsJSON"])
    shown = {(reference["type"], reference["id"]) for reference in dashboard["references"]}
    assert len(panels) == len(shown) == len([it for it in OBJECTS if it["type"] in ("visualization", "search")])
    places = [(panel["gridData"]["x"], panel["gridData"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def _named(attributes: Any) -> Iterator[str]:
    """The names by which a saved object refers to others."""
    match attributes:
        case dict():
            for name, value in attributes.items():
                if name in ("index_pattern_ref_name", "indexRefName", "panelRefName"):
                    yield value
                else:
                    yield from _named(json.loads(value) if name.endswith(("JSON", "visState")) else value)
        case list():
            for value in attributes:
                yield from _named(value)


def test_every_field_of_the_dashboard_is_in_the_template() -> None:
    patterns = {it["attributes"]["title"] for it in OBJECTS if it["type"] == "index-pattern"}
    assert patterns == set(TEMPLATE["index_patterns"])
    used = {field for it in OBJECTS for value in inner(it["attributes"]) for field in FIELD.findall(str(value))}
    assert {"labels.app", "http.response.status_code", "labels.health", "event.action"} < used <= KNOWN


def test_what_the_daemon_says_of_a_deploy_is_in_the_template() -> None:
    import logging

    args = ("shop", "1a2b3c4", "Succeeded", "Synced", "Healthy", "web: image", "why")
    message = "outcome app=%s commit=%s operation=%s sync=%s health=%s changed=%s why=%s"
    record = logging.LogRecord("gitops_mvd.daemon.loop", logging.INFO, "", 1, message, args, None)
    said = json.loads(Ecs("uk-web-1").format(record))
    assert said["event"]["dataset"] == DATASET
    assert set(_paths(said)) <= KNOWN


def _paths(value: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, it in value.items():
        if isinstance(it, dict):
            yield from _paths(it, f"{above}{name}.")
        else:
            yield above + name


@pytest.mark.parametrize("app", ["elasticsearch", "kibana"])
def test_a_job_hands_the_file_over_that_lies_beside_it(app: str) -> None:
    compose = yaml.safe_load((EXAMPLE / "apps" / app / "compose.yaml").read_text())
    [job] = [service for service in compose["services"].values() if service.get("restart") == "no"]
    [volume] = job["volumes"]
    source, target, _ = volume.split(":")
    assert (EXAMPLE / "apps" / app / source).is_file()
    assert any(word.endswith(f"@{target}") for word in job["command"])
