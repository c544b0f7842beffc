"""What containers print gets to a receiver, with its app, service, instance, revision and host; nobody waits for it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.stories import Story, eventually, settings
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.stage import until

pytestmark = pytest.mark.lab

EXAMPLE = Path(__file__).parents[2] / "example-repo"
RECORDED = Path(__file__).parents[1] / "contract" / "recorded_logs"
INDICES = "containers-*,requests-*,deploys-*"
LINES = 40
LOCAL = 'server="127.0.0.1" serverport="9200"'
REMOTE = "/var/log/journal/remote"


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server whose daemon logs in the Elastic Common Schema."""
    repository = lab.forge.create("acme/logs")
    repository.commit({"README.md": "What is printed\n"}, "Begin")
    server = lab.server("printer")
    story = Story.set_up(lab, server, repository)
    with settings(story, "log: {format: ecs}"):
        yield story
    server.destroy()


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("printer", "1", service.web("printer", "1"))


def printing(image: str, word: str, **more: Any) -> dict[str, Any]:
    """A service that prints a number of lines with that word, and then does nothing."""
    command = ["sh", "-c", f"for n in $$(seq {LINES}); do echo {word} $$n; done; exec sleep 86400"]
    return {"image": image, "command": command, "stop_signal": "SIGKILL", "restart": "always", **more}


def job(image: str, word: str) -> dict[str, Any]:
    return {"image": image, "command": ["sh", "-c", f"echo {word} once"], "restart": "no"}


@pytest.fixture(scope="module")
def elasticsearch(lab: Lab, story: Story) -> Iterator[str]:
    """The address of a real one, to which the journal goes by the example's own files."""
    url = lab.opensearch.url
    template = json.loads((EXAMPLE / "apps" / "elasticsearch" / "index-template.json").read_text())
    assert requests.put(f"{url}/_index_template/mvd", json=template, timeout=10).ok
    host, _, port = url.removeprefix("http://").partition(":")
    text = (EXAMPLE / "logs" / "rsyslog.conf").read_text()
    assert LOCAL in text
    story.server.put("/etc/rsyslog.d/60-mvd.conf", text.replace(LOCAL, f'server="{host}" serverport="{port}"'))
    story.run("rsyslogd", "-N1")
    story.run("systemctl", "enable", "--now", "--quiet", "rsyslog")
    yield url
    story.run("systemctl", "disable", "--now", "--quiet", "rsyslog")


def found(url: str, **fields: str) -> list[dict[str, Any]]:
    """The documents that a search for these fields finds; `_` stands for a dot, and `message` for its words."""
    must = [
        {"match_phrase": {"message": value}} if name == "message" else {"term": {name.replace("_", "."): value}}
        for name, value in fields.items()
    ]
    query = {"query": {"bool": {"must": must}}, "size": 200}
    answer = requests.post(f"{url}/{INDICES}/_search?ignore_unavailable=true", json=query, timeout=10).json()
    return [hit["_source"] for hit in answer["hits"]["hits"]]


def test_a_line_is_found_in_elasticsearch_by_where_it_comes_from(story: Story, elasticsearch: str, image: str) -> None:
    engine = {**job(image, "written"), "logging": {"driver": "journald"}}
    services = {"web": printing(image, "hello"), "once": job(image, "migrated"), "engine": engine}
    commit = story.deploy("shop", {"services": services})
    printed = {
        "web": [f"hello {n}" for n in range(1, LINES + 1)],
        "once": ["migrated once"],
        "engine": ["written once"],
    }
    for name, messages in printed.items():
        [unit] = [path for path in story.units("shop") if f"-{name}-" in path]
        instance = unit.rpartition("/")[2].removesuffix(".service")
        where = {"labels_app": "shop", "service_name": name, "container_name": instance, "labels_revision": commit}

        def arrived(messages: list[str] = messages, where: dict[str, str] = where) -> list[dict[str, Any]] | None:
            lines = found(elasticsearch, **where, host_name="printer")
            return lines if {*messages} <= {line["message"] for line in lines} else None

        lines = until(arrived, f"the lines of {name}", 60)
        assert sorted(line["message"] for line in lines) == sorted(messages), "each of them once"
        assert {line["log.level"] for line in lines} == {"info"}
    ended = {"event_action": "outcome", "labels_app": "shop", "labels_revision": commit}
    eventually(
        "the end of the deploy",
        lambda: found(elasticsearch, **ended, event_dataset="gitops-mvd", event_outcome="success", host_name="printer"),
    )


def test_nothing_waits_for_elasticsearch_and_no_line_is_lost_while_it_is_down(
    lab: Lab, story: Story, elasticsearch: str, image: str
) -> None:
    before = story.deploy("outage", {"services": {"web": printing(image, "before")}})
    eventually("the lines before", lambda: len(found(elasticsearch, labels_revision=before, message="before")) == LINES)
    lab.opensearch.stop()
    try:
        commit = story.deploy("outage", {"services": {"web": printing(image, "meanwhile")}})
        story.run("systemctl", "is-active", "rsyslog")
        assert story.run("find", "/var/spool/rsyslog", "-name", "mvd-elasticsearch.0*"), "they wait on the disk"
    finally:
        lab.opensearch.start()

    def arrived() -> bool:
        lines = found(elasticsearch, labels_app="outage", labels_revision=commit, message="meanwhile")
        return len({line["message"] for line in lines}) == LINES

    eventually("the lines of the outage", arrived, 90)


def test_a_line_of_a_megabyte_and_one_of_ansi_and_html_hold_up_no_other(
    story: Story, elasticsearch: str, image: str
) -> None:
    script = (
        r"printf '%01000000d\n' 0; printf '\033[31m<script>alert(1)</script>\377\n'; echo afterwards; exec sleep 86400"
    )
    service = {**printing(image, ""), "command": ["sh", "-c", script]}
    commit = story.deploy("awkward", {"services": {"web": service}})
    eventually("the line after them", lambda: found(elasticsearch, labels_revision=commit, message="afterwards"))
    lines = {line["message"] for line in found(elasticsearch, labels_revision=commit)}
    assert "#033[31m<script>alert(1)</script> " in lines
    assert max(map(len, lines)) == 16384, "the engine cuts a line into pieces"


def test_a_request_that_kong_tells_of_is_of_its_app(story: Story, elasticsearch: str) -> None:
    recorded = (RECORDED / "kong-tcp-log.json").read_text()
    story.run("bash", "-c", "cat >/dev/tcp/127.0.0.1/5170", input=recorded)
    eventually("the request", lambda: found(elasticsearch, event_dataset="kong", labels_app="chatbot"))
    [request] = found(elasticsearch, event_dataset="kong", labels_app="chatbot")
    del request["ecs.version"]
    assert request == {
        "@timestamp": 1726782639117,
        "event.dataset": "kong",
        "labels.app": "chatbot",
        "service.name": "web",
        "host.name": "printer",
        "http.request.method": "GET",
        "http.request.id": "2f6946328ffc4946b8c9120704a4a155",
        "url.path": "/chatbot/messages",
        "http.response.status_code": 503,
        "http.response.bytes": 9982,
        "event.duration": 171_000_000,
        "client.ip": "192.168.65.1",
        "user.name": "mobile-app",
    }


def test_a_journal_is_uploaded_and_goes_on_where_a_receiver_that_was_down_left_off(story: Story, image: str) -> None:
    receiver = ("/lib/systemd/systemd-journal-remote", "--listen-http=127.0.0.1:19532", f"--output={REMOTE}/")

    def start_receiver() -> None:
        story.run("systemd-run", "--quiet", "--unit=receiver", *receiver)

    config = (EXAMPLE / "logs" / "journal-upload.conf").read_text()
    story.server.put("/etc/systemd/journal-upload.conf.d/mvd.conf", config.replace("10.1.0.30", "127.0.0.1"))
    unit = (EXAMPLE / "logs" / "journal-upload-unit.conf").read_text()
    story.server.put("/etc/systemd/system/systemd-journal-upload.service.d/mvd.conf", unit)
    story.run("mkdir", "-p", REMOTE)
    start_receiver()
    story.run("systemctl", "daemon-reload")
    story.run("systemctl", "start", "systemd-journal-upload")

    def received(word: str, commit: str) -> bool:
        fields = (f"IO_GITOPS_MVD_REVISION={commit}", "IO_GITOPS_MVD_APP=upload", "IO_GITOPS_MVD_SERVICE=web")
        options = ("--quiet", "--output=json", f"--directory={REMOTE}", "--no-pager")
        rows = story.server.exec("journalctl", *options, *fields, check=False).out.splitlines()
        lines = [json.loads(row) for row in rows]
        lines = [line for line in lines if str(line["MESSAGE"]).startswith(word)]
        if len(lines) != LINES:
            return False
        assert {line["_HOSTNAME"] for line in lines} == {"printer"}
        assert {line["CONTAINER_NAME"] for line in lines} == {story.unit("upload").removesuffix(".service")}
        return True

    try:
        commit = story.deploy("upload", {"services": {"web": printing(image, "first")}})
        eventually("the first lines", lambda: received("first", commit))
        story.run("systemctl", "stop", "receiver")
        commit = story.deploy("upload", {"services": {"web": printing(image, "second")}})
        start_receiver()
        eventually("the lines of the outage", lambda: received("second", commit))
    finally:
        story.run("systemctl", "stop", "systemd-journal-upload", "receiver")


@contextmanager
def listening(lab: Lab) -> Iterator[socket.socket]:
    """What takes datagrams of the servers, as Logstash would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((lab.address, 0))
        receiver.settimeout(60)
        yield receiver


def url(receiver: socket.socket) -> str:
    host, port = receiver.getsockname()
    return f"udp://{host}:{port}"


def test_all_services_of_a_host_log_to_what_fleet_yaml_names_unless_they_say_otherwise(
    lab: Lab, story: Story, image: str
) -> None:
    says = "while :; do echo there; echo broken >&2; sleep 1; done"  # again and again: datagrams may get lost
    both = {**printing(image, "there"), "command": ["sh", "-c", says]}
    own = printing(image, "apart", logging={"driver": "journald"})
    story.deploy("fleet", {"services": {"web": both, "apart": own}})
    before = story.containers("fleet-")
    with listening(lab) as gelf:
        options = {"gelf-address": url(gelf), "gelf-compression-type": "none"}
        fleet = {"defaults": {"logging": {"driver": "gelf", "options": options}}, "hosts": {"printer": None}}
        commit = story.merge({"fleet.yaml": json.dumps(fleet)}, "Log to Logstash")
        try:
            story.ends(commit, "success")
            after = story.containers("fleet-")
            assert before.keys() & after.keys() == {name for name in before if "-apart-" in name}
            lines = _of_app(gelf, "fleet", {"there", "broken"})
        finally:
            story.ends(story.merge({"fleet.yaml": None}, "Log to the journal again"), "success")
    if os.environ.get("ACCEPT"):
        (RECORDED / "gelf.jsonl").write_text("".join(f"{json.dumps(lines[it])}\n" for it in ("there", "broken")))
    for name, recorded in zip(("there", "broken"), (RECORDED / "gelf.jsonl").read_text().splitlines(), strict=True):
        line = lines[name]
        assert line["_container_name"] in after
        assert (line["host"], line["_io.gitops-mvd.service"]) == ("printer", "web")
        assert line["_io.gitops-mvd.revision"] == commit
        assert line.keys() == json.loads(recorded).keys(), "a real line has the fields of the recorded one"
        assert line["level"] == json.loads(recorded)["level"]


CHUNK = b"\x1e\x0f"  # how a part of a line begins, as GELF has it


def _of_app(gelf: socket.socket, app: str, messages: set[str]) -> dict[str, dict[str, Any]]:
    """A line of the app with each of these messages."""
    lines: dict[str, dict[str, Any]] = {}

    def take() -> bool:
        if not (sent := gelf.recv(65536)).startswith(CHUNK):  # which is of a long line of another service
            line = json.loads(sent)
            if line.get("_io.gitops-mvd.app") == app:
                lines[line["short_message"]] = line
        return lines.keys() >= messages

    deadline = time.monotonic() + 60
    while not take():
        assert time.monotonic() < deadline, f"{sorted(lines)} came, not {sorted(messages)}"
    return lines


def test_a_line_of_syslog_has_all_of_it_in_its_tag(lab: Lab, story: Story, image: str) -> None:
    with listening(lab) as syslog:
        logging = {"driver": "syslog", "options": {"syslog-address": url(syslog)}}
        commit = story.deploy("tagged", {"services": {"web": printing(image, "tagged", logging=logging)}})
        line = syslog.recv(65536).decode()
    instance = story.unit("tagged").removesuffix(".service")
    assert f" tagged/web/{instance}/{commit}[" in line
    assert line.endswith(": tagged 1\n")
