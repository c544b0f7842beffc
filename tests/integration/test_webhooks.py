"""Webhooks, on a real server whose daemon looks by itself only once an hour."""

from __future__ import annotations

import json
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests

from tests.integration.stories import DAEMON, Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.dialects.github import webhook_headers
from tests.lab.lab import Lab
from tests.lab.repository import Hook
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

SECRET_FILE = "/etc/gitops-mvd/webhook"
MORE = f'webhook: {{listen: "0.0.0.0:9180", secret_file: {SECRET_FILE}}}\n'


@pytest.fixture(scope="module")
def secret() -> str:
    return secrets.token_hex(16)


@pytest.fixture(scope="module")
def story(lab: Lab, secret: str) -> Iterator[Story]:
    """A server of our own, which hears of merges by webhooks only."""
    repository = lab.forge.create("acme/webhooks")
    repository.commit({"README.md": "Webhooks\n"}, "Begin")
    server = lab.server("told")
    story = Story.set_up(lab, server, repository)
    server.put(SECRET_FILE, f"{secret}\n", 0o600)
    server.put(SETTINGS, story.run("cat", SETTINGS).replace("interval: 2s", "interval: 1h") + MORE)
    eventually("that it listens", lambda: "listening for webhooks at=0.0.0.0:9180" in story.log())
    repository.hooks.append(Hook(f"http://{server.ip}:9180/webhook", secret))
    yield story
    server.destroy()


def send(story: Story, body: bytes, headers: dict[str, str]) -> int:
    """The answer to one request."""
    with requests.Session() as session:
        session.trust_env = False
        url = story.repository.hooks[0].url
        return session.post(url, data=body, headers=headers, timeout=10).status_code


def send_large(story: Story, megabytes: int) -> bytes:
    """The first words of the answer to a request that says how large it is, and sends as much of it as is taken."""
    with socket.create_connection((story.server.ip, 9180), timeout=10) as connection:
        head = f"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: {megabytes * 1000 * 1000}\r\n\r\n"
        connection.sendall(head.encode())
        try:
            for _ in range(megabytes):
                connection.sendall(b"x" * 1000 * 1000)
            return b"all of it was taken"
        except ConnectionError:
            return b"closed"


def said_since(story: Story, before: str) -> list[str]:
    return [line for line in story.log().removeprefix(before).splitlines() if " webhook" in line]


def test_a_merge_is_deployed_at_once_though_the_next_look_is_far_away(lab: Lab, story: Story) -> None:
    for version in ("1", "2"):
        image = lab.registry.push("prompt", version, service.web("prompt", version))
        asked = time.monotonic()
        story.deploy("prompt", {"services": {"web": routed(image, "/prompt")}})
        assert time.monotonic() - asked < 60
        story.answers("/prompt", f"prompt {version}")
    assert {delivery.status for delivery in story.repository.deliveries} == {202}
    assert "webhook push from=" in story.log()


def test_bad_ones_are_a_line_each_and_disturb_no_deploy(lab: Lab, story: Story, secret: str) -> None:
    old = lab.registry.push("busy", "1", service.web("busy", "1"))
    story.deploy("busy", {"services": {"web": routed(old, "/busy")}})
    new = lab.registry.push("busy", "2", service.web("busy", "2", after=5))
    before = story.log()
    commit = story.merge(manifest("busy", {"services": {"web": routed(new, "/busy")}}), "Deploy busy, slowly")
    eventually("the new version beside the old one", lambda: len(story.containers("busy")) == 2)

    forged = json.dumps({"ref": "refs/heads/main", "after": commit, "forged": True}).encode()
    captured = json.dumps({"ref": "refs/heads/main", "after": commit, "captured": True}).encode()
    with story.never_failing("/busy/", "busy 1", "busy 2"):
        for _ in range(50):
            assert send(story, forged, webhook_headers("push", forged, "somebody-else-knows-this")) == 401
        for _ in range(50):
            assert send(story, captured, webhook_headers("push", captured, secret)) == 202
        for _ in range(5):
            assert send_large(story, 100) == b"closed"
        assert story.told(commit)[-1][0] == "pending", "it is in the middle of the deploy"
        story.ends(commit, "success")
    story.answers("/busy", "busy 2")
    said = [re.sub(r"from=[0-9.]+", "from=SOMEBODY", line) for line in said_since(story, before)]
    assert sorted(set(said)) == [
        "INFO webhook push from=SOMEBODY",
        "INFO webhook repeated from=SOMEBODY",
        "WARNING webhook refused from=SOMEBODY: 413 Request Entity Too Large",
        "WARNING webhook refused from=SOMEBODY: wrong signature or secret",
    ]
    assert len(said) == 5  # the merge was one more push
    assert secret not in story.log()
    assert "superseded" not in story.log().removeprefix(before)


def test_a_merge_in_the_middle_of_a_deploy_takes_its_place(lab: Lab, story: Story) -> None:
    slow = lab.registry.push("replaced", "1", service.web("replaced", "1", after=600))
    good = lab.registry.push("replaced", "2", service.web("replaced", "2"))
    health = {"http": "/health", "port": 7799, "within": "10m"}
    waiting = {"services": {"web": {**routed(slow, "/replaced"), "x-mvd": {"health": health}}}}
    story.merge(manifest("replaced", waiting), "Deploy what will not start")
    eventually("its container", lambda: story.containers("replaced"))
    story.deploy("replaced", {"services": {"web": routed(good, "/replaced")}})
    story.answers("/replaced", "replaced 2")


def test_it_listens_again_with_a_new_secret_as_soon_as_that_is_written(story: Story, secret: str) -> None:
    newer = secrets.token_hex(16)
    body = json.dumps({"ref": "refs/heads/main", "new": True}).encode()
    process = story.run("systemctl", "show", "--property=MainPID", DAEMON)
    story.server.put(SECRET_FILE, f"{newer}\n", 0o600)

    def is_taken() -> bool:
        try:
            return send(story, body, webhook_headers("push", body, newer)) == 202
        except requests.ConnectionError:  # as it closes the port, and opens it again
            return False

    eventually("that the new secret is taken up", is_taken)
    other = body + b" "
    assert send(story, other, webhook_headers("push", other, secret)) == 401
    assert story.run("systemctl", "show", "--property=MainPID", DAEMON) == process
    story.repository.hooks[0] = replace(story.repository.hooks[0], secret=newer)


def test_the_doctor_sees_that_it_listens(story: Story) -> None:
    assert "the daemon listens at 0.0.0.0:9180" in story.mvd("doctor").out
    with story.without_daemon():
        assert "nothing listens at 0.0.0.0:9180" in story.mvd("doctor").out


def test_a_port_that_another_program_has_stops_no_deploy(lab: Lab, story: Story) -> None:
    image = lab.registry.push("deaf", "1", service.web("deaf", "1"))
    with story.without_daemon():
        story.run("systemd-run", "--unit=holder", "python3", "-m", "http.server", "9180")
        eventually("who takes the port", lambda: ":9180 " in story.run("ss", "-ltn"))
    try:
        cause = "cannot listen for webhooks at 0.0.0.0:9180: address already in use"
        eventually("that it is told", lambda: cause in story.log())
        eventually("that it is in the status", lambda: "thread webhooks not running since" in story.mvd("status").out)
        assert "another program listens at" in story.mvd("doctor").out
        assert cause in story.mvd("doctor").out
        commit = story.merge(manifest("deaf", {"services": {"web": routed(image, "/deaf")}}), "Deploy deaf")
        story.look_again()
        story.ends(commit, "success")
    finally:
        story.run("systemctl", "stop", "holder")
    eventually("that it listens after all", lambda: "the daemon listens" in story.mvd("doctor").out, within=60)
    assert "thread webhooks started again" in story.mvd("status").out
