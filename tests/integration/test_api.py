"""A deploy as the local API shows it, on a real server: live, afterwards, and for who is not root."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.stories import Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.command import Result
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

ASK = """
import http.client, json, socket, sys
method, path, body, name = sys.argv[1:5]
connection = http.client.HTTPConnection("localhost", timeout=150)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.settimeout(150)
connection.sock.connect(f"/run/gitops-mvd/{name}.sock")
connection.request(method, path, body or None)
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode()]))
"""


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("api", "1", service.web("api", "1"))


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/api")
    repository.commit({"README.md": "Api\n"}, "Begin")
    server = lab.server("api")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def ask(story: Story, path: str, *, method: str = "GET", body: str = "", name: str = "api", user: str = "root") -> Any:
    """The status and the answer, asked as that user, by nothing but Python's own HTTP."""
    words = ["python3", "-c", ASK, method, path, body, name]
    as_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user != "root" else []
    status, text = json.loads(story.run(*as_user, *words))
    return status, [json.loads(line) for line in text.splitlines() if line]


def test_a_deploy_is_shown_with_its_steps_and_what_runs_afterwards(story: Story, image: str) -> None:
    commit = story.deploy("shop", {"services": {"web": routed(image, "/shop", deploy={"replicas": 2})}})
    status, [host] = ask(story, "/v1/status")
    assert status == 200
    [app] = host["apps"]
    assert (app["name"], app["sync"], app["health"]) == ("shop", "Synced", "Healthy")
    assert (app["running"]["commit"], app["running"]["subject"]) == (commit, "Deploy shop")
    [web] = app["services"]
    assert (web["ready"], web["wanted"], web["image"]) == (2, 2, image)
    assert web["routes"][0]["matches"] == ["/shop"]
    assert all("->7799" in it["ports"][0] for it in web["instances"])

    _, [operations] = ask(story, f"/v1/operations?commit={commit[:10]}")
    [operation] = operations
    assert operation["steps"] == []
    _, [whole] = ask(story, f"/v1/operations/{operation['id']}")
    assert {step["state"] for step in whole["steps"]} == {"done"}
    assert {"create", "wait"} <= {step["verb"] for step in whole["steps"]}
    assert {phase["name"] for phase in whole["phases"]} == {"fetch", "read", "look", "apply"}
    assert whole["ended"] > whole["began"]
    assert whole["results"][0]["health"] == "Healthy"


def test_a_deploy_is_seen_while_it_lasts_and_why_it_failed(story: Story, image: str) -> None:
    health = {"http": "/nowhere", "port": 7799, "within": "8s"}
    commit = story.merge(
        manifest("shop", {"services": {"web": routed(image, "/shop", **{"x-mvd": {"health": health}})}}), "Break shop"
    )
    seen: list[Any] = []

    def waits() -> bool:
        _, [host] = ask(story, "/v1/status")
        if host["deploying"]:
            _, [operation] = ask(story, f"/v1/operations/{host['deploying']}")
            seen.append(operation)
            return any(it["verb"] == "wait" and it["state"] == "running" for it in operation["steps"])
        return False

    eventually("that the gate is waited at", waits, 30)
    assert seen[-1]["ended"] == 0
    assert seen[-1]["commit"]["subject"] == "Break shop"
    story.ends(commit, "failure")
    _, [operations] = ask(story, f"/v1/operations?commit={commit}")
    [ended] = [it for it in operations if it["results"]]  # Docker may have had a pass wait, just after the boot
    _, [whole] = ask(story, f"/v1/operations/{ended['id']}")
    failed = [step for step in whole["steps"] if step["state"] == "failed"]
    assert [step["verb"] for step in failed] == ["wait"]
    assert "404" in failed[0]["why"]
    assert whole["results"][0]["operation"] == "RolledBack"


def test_who_is_not_root_looks_as_a_member_of_one_group_and_acts_as_one_of_another(story: Story) -> None:
    for user, groups in (("anna", ["mvd"]), ("bert", ["mvd", "mvd-act"]), ("carl", [])):
        story.run("useradd", user, *(["--groups", ",".join(groups)] if groups else []))
    assert ask(story, "/v1/status", user="anna")[0] == 200
    with pytest.raises(Exception, match="PermissionError"):
        ask(story, "/v1/status", user="carl")
    with pytest.raises(Exception, match="PermissionError"):
        ask(story, "/v1/sync", method="POST", body="{}", name="act", user="anna")
    assert ask(story, "/v1/sync", method="POST", body="{}", user="anna")[0] == 403
    assert ask(story, "/v1/sync", method="POST", body='{"by": "bert"}', name="act", user="bert")[0] == 200
    _, [events] = ask(story, "/v1/events?limit=1000")
    assert any(event["text"] == "sync asked by=bert" for event in events["events"])


def test_members_of_the_groups_use_the_command_without_root(story: Story) -> None:
    def typed(user: str, *words: str) -> Result:
        as_user = ("setpriv", "--reuid", user, "--regid", user, "--init-groups")
        return story.server.exec(*as_user, "mvd", *words, check=False, timeout=150)

    status = typed("anna", "status", "shop/web")
    assert re.search(r"^shop +\w+ +Healthy +2/2 +[0-9a-f]{7} ", status.out, re.MULTILINE), status
    assert len(re.findall(r"^mvd-shop-web-\S+ +running +Healthy ", status.out, re.MULTILINE)) == 2
    assert typed("anna", "explain", "shop").out.startswith("shop/web\n")
    assert typed("anna", "explain", "shoe").err.splitlines() == [
        "mvd: no such app or service on this host: shoe",
        "     Apps: shop",
    ]
    assert re.search(r"^\d{4}-\S+ \S+ web-[0-9a-f]{8}\S* \| ", typed("anna", "logs", "shop").out)
    assert typed("anna", "sync").err.splitlines() == [
        "mvd: cannot ask the daemon at /run/gitops-mvd/act.sock: permission denied",
        "     run as root, or join the group mvd-act: usermod -aG mvd-act YOUR_NAME",
    ]
    assert "permission denied" in typed("carl", "status").err
    assert typed("bert", "suspend", "shop", "--why", "a try").out.startswith("suspended: shop is left as it is")
    shown = re.search(r"^shop .* suspended by bert: a try", typed("anna", "status").out, re.MULTILINE)
    assert shown
    assert typed("bert", "resume", "shop").out == "shop: resumed\n"
    assert typed("bert", "sync").out.splitlines()[0].split() == ["APP", "OPERATION", "SYNC", "HEALTH"]


def test_a_sync_shows_the_steps_of_the_daemon(lab: Lab, story: Story, image: str) -> None:
    second = lab.registry.push("api", "2", service.web("api", "2"))
    story.repository.commit(manifest("shop", {"services": {"web": routed(second, "/shop")}}), "Shop 2")
    said = story.mvd("sync")
    assert said.code == 0, said
    assert re.search(r"^shop/web: create container .*\(\d+\.\d s\)$", said.err, re.MULTILINE), said
    assert re.search(r"^shop +Succeeded +Synced +Healthy", said.out, re.MULTILINE), said


def test_plan_explain_and_doctor_are_answered(story: Story) -> None:
    for path in ("/v1/plan", "/v1/explain?name=shop", "/v1/doctor"):
        status, [answer] = ask(story, path)
        assert status == 200, path
        assert answer["answer"], path


def test_the_output_of_a_service_is_told_line_by_line(story: Story) -> None:
    status, lines = ask(story, "/v1/logs?name=shop/web&lines=5")
    assert status == 200
    assert lines
    assert {(line["app"], line["service"]) for line in lines} == {("shop", "web")}
    assert all(line["instance"].startswith("mvd-shop-web-") and line["cursor"] for line in lines)


def test_the_api_is_back_after_a_kill_of_the_daemon(story: Story) -> None:
    story.run("systemctl", "kill", "--signal=KILL", "gitops-mvd.service")

    def answers() -> bool:
        try:
            return bool(ask(story, "/readyz")[0] == 200)
        except Exception:
            return False

    eventually("that the API answers again", answers, 30)
