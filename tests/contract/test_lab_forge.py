"""The lab's forge answers as GitHub does, to git and to a client of the status API."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.lab.forge import Forge, Hook, Repository

TOKEN = "t0ken"


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge", token=TOKEN) as running:
        yield running


@pytest.fixture
def config(forge: Forge) -> Repository:
    return forge.create("acme/config")


def git(*words: str, at: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(at),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    return subprocess.run(
        ["git", *identity, *words], cwd=at, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def with_token(url: str, token: str = TOKEN) -> str:
    return url.replace("http://", f"http://x-access-token:{token}@")


def api(forge: Forge, method: str, path: str, token: str = TOKEN, **more: Any) -> requests.Response:
    return requests.request(
        method,
        f"{forge.url}/api/v3/repos/{path}",
        headers={"Authorization": f"Bearer {token}", "Connection": "close"},
        timeout=10,
        **more,
    )


def post(forge: Forge, sha: str, **status: str) -> requests.Response:
    return api(forge, "POST", f"acme/config/statuses/{sha}", json=status)


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come true within 10 s"
        time.sleep(0.01)


def test_clones_and_takes_pushes_of_whoever_has_the_token(config: Repository, tmp_path: Path) -> None:
    config.commit({"apps/a/compose.yaml": "services: {}\n"}, "First")
    assert git("clone", "-q", with_token(config.clone_url), "copy", at=tmp_path).returncode == 0
    copy = tmp_path / "copy"
    (copy / "large").write_bytes(os.urandom(3_000_000))  # beyond http.postBuffer: sent chunked
    git("add", ".", at=copy)
    git("commit", "-qm", "Second", at=copy)
    pushed = git("push", "-q", "origin", "main", at=copy)
    assert pushed.returncode == 0, pushed.stderr
    assert config.resolve("main") == git("rev-parse", "HEAD", at=copy).stdout.strip()


@pytest.mark.parametrize("token", ["wrong", ""])
def test_refuses_git_without_the_right_token(config: Repository, tmp_path: Path, token: str) -> None:
    refused = git("ls-remote", with_token(config.clone_url, token), at=tmp_path)
    assert refused.returncode != 0
    assert "Authentication failed" in refused.stderr


def test_lets_everybody_in_without_a_token(tmp_path: Path) -> None:
    with Forge(tmp_path, token=None) as forge:
        repository = forge.create("acme/open")
        sha = repository.commit({"a": "1"}, "First")
        assert sha in git("ls-remote", repository.clone_url, at=tmp_path).stdout


def test_serves_shallow_fetches_of_any_reachable_commit(config: Repository, tmp_path: Path) -> None:
    first = config.commit({"a": "1"}, "First")
    config.commit({"a": "2"}, "Second")
    git("init", "-q", "--bare", "mirror", at=tmp_path)
    fetched = git("fetch", "-q", "--depth=1", with_token(config.clone_url), first, at=tmp_path / "mirror")
    assert fetched.returncode == 0, fetched.stderr
    assert git("rev-list", "FETCH_HEAD", at=tmp_path / "mirror").stdout.split() == [first]


def test_a_revert_brings_back_the_tree_of_before(config: Repository) -> None:
    before = config.commit({"a": "1", "b": "1"}, "Good")
    bad = config.commit({"a": "2", "b": None}, "Bad")
    after = config.revert(bad)
    assert config.resolve(f"{after}^") == bad
    assert tree(config, after) == tree(config, before) != tree(config, bad)


def tree(repository: Repository, sha: str) -> str:
    return git("rev-parse", f"{sha}^{{tree}}", at=repository.path).stdout


def test_statuses_are_kept_in_order_and_read_back_newest_first(forge: Forge, config: Repository) -> None:
    sha = config.commit({}, "Empty")
    answer = post(forge, sha, state="pending", context="mvd/web-1", description="working", target_url="http://x/")
    assert answer.status_code == 201
    assert answer.json()["state"] == "pending"
    assert answer.json()["url"].endswith(f"/api/v3/repos/acme/config/statuses/{sha}")
    post(forge, sha, state="success", context="mvd/web-1")
    assert [(s.context, s.state, s.description, s.target_url) for s in config.statuses(sha)] == [
        ("mvd/web-1", "pending", "working", "http://x/"),
        ("mvd/web-1", "success", "", ""),
    ]
    listed = api(forge, "GET", f"acme/config/commits/{sha}/statuses").json()
    assert [status["state"] for status in listed] == ["success", "pending"]
    page = api(forge, "GET", "acme/config/commits/main/statuses", params={"per_page": 1, "page": 2}).json()
    assert [status["state"] for status in page] == ["pending"]


@pytest.mark.parametrize(
    ("states", "combined"),
    [
        ([], "pending"),
        (["success", "success"], "success"),
        (["success", "pending"], "pending"),
        (["pending", "error"], "failure"),
    ],
)
def test_the_combined_status_is_the_worst_of_its_contexts(
    forge: Forge, config: Repository, states: list[str], combined: str
) -> None:
    sha = config.commit({}, "Empty")
    for number, state in enumerate(states):
        post(forge, sha, state=state, context=f"mvd/{number}")
    answer = api(forge, "GET", "acme/config/commits/main/status").json()
    assert (answer["state"], answer["total_count"], answer["sha"]) == (combined, len(states), sha)


def test_contexts_are_told_apart_without_regard_to_case(forge: Forge, config: Repository) -> None:
    sha = config.commit({}, "Empty")
    post(forge, sha, state="failure", context="MVD/web-1")
    post(forge, sha, state="success", context="mvd/web-1")
    answer = api(forge, "GET", f"acme/config/commits/{sha}/status").json()
    assert [(s["context"], s["state"]) for s in answer["statuses"]] == [("mvd/web-1", "success")]


def test_refusals_are_githubs_own(forge: Forge, config: Repository) -> None:
    sha, unknown = config.commit({}, "Empty"), "f" * 40
    path = f"acme/config/statuses/{sha}"
    assert api(forge, "POST", path, token="wrong", json={"state": "success"}).status_code == 401
    assert api(forge, "POST", f"acme/other/statuses/{sha}", json={"state": "success"}).status_code == 404
    assert post(forge, unknown, state="success").json()["message"] == f"No commit found for SHA: {unknown}"
    long = post(forge, sha, state="success", description="x" * 141)
    assert long.status_code == 422
    assert long.json()["errors"][0]["message"] == "description is too long (maximum is 140 characters)"
    assert post(forge, sha, state="green").status_code == 422
    assert api(forge, "POST", path, data="{").status_code == 400
    assert config.statuses(sha) == []


def test_a_status_goes_to_a_full_commit_id_only(forge: Forge, config: Repository) -> None:
    sha = config.commit({}, "Empty")
    assert post(forge, "main", state="success").status_code == 422
    assert post(forge, sha[:12], state="success").status_code == 422


def test_one_context_of_a_commit_takes_a_thousand_statuses(forge: Forge, config: Repository) -> None:
    sha = config.commit({}, "Empty")
    post(forge, sha, state="pending", context="mvd/web-1")
    for _ in range(999):
        config.post(sha, config.statuses(sha)[0])
    refused = post(forge, sha, state="success", context="MVD/WEB-1")
    assert refused.status_code == 422
    assert "maximum number of statuses" in refused.json()["errors"][0]["message"]
    assert post(forge, sha, state="success", context="mvd/web-2").status_code == 201


class Receiver(BaseHTTPRequestHandler):
    got: list[tuple[Message, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((self.headers, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_push_is_told_to_the_hooks_and_signed(config: Repository) -> None:
    Receiver.got = []
    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.02,))
        thread.start()
        try:
            config.hooks.append(Hook(f"http://127.0.0.1:{receiver.server_port}/hook", "s3cret"))
            sha = config.commit({"a": "1"}, "First")
            eventually(lambda: config.deliveries)
        finally:
            receiver.shutdown()
            thread.join()
    headers, body = Receiver.got[0]
    event = json.loads(body)
    assert (event["ref"], event["after"], event["created"]) == ("refs/heads/main", sha, True)
    assert event["repository"]["full_name"] == "acme/config"
    assert headers["X-GitHub-Event"] == "push"
    signature = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] == f"sha256={signature}"
    assert config.deliveries[0].status == 204


def test_a_hook_that_does_not_answer_harms_no_push(config: Repository) -> None:
    config.hooks.append(Hook("http://127.0.0.1:1/nobody"))
    sha = config.commit({"a": "1"}, "First")
    eventually(lambda: config.deliveries)
    assert config.deliveries[0].status is None
    assert "refused" in config.deliveries[0].error
    assert config.resolve("main") == sha


def test_faults_are_as_many_as_were_ordered(forge: Forge, config: Repository) -> None:
    sha = config.commit({}, "Empty")
    forge.fail_next(2, status=503)
    answers = [post(forge, sha, state="success").status_code for _ in range(3)]
    assert answers == [503, 503, 201]


def test_a_forge_that_is_down_closes_connections_until_it_is_back(forge: Forge, config: Repository) -> None:
    sha = config.commit({}, "Empty")
    forge.down = True
    with pytest.raises(requests.ConnectionError):
        post(forge, sha, state="success")
    forge.down = False
    assert post(forge, sha, state="success").status_code == 201


def test_the_api_alone_can_be_down(forge: Forge, config: Repository, tmp_path: Path) -> None:
    sha = config.commit({}, "Empty")
    forge.api_down = True
    assert post(forge, sha, state="success").status_code == 503
    assert sha in git("ls-remote", with_token(config.clone_url), at=tmp_path).stdout
    forge.api_down = False
    assert post(forge, sha, state="success").status_code == 201
