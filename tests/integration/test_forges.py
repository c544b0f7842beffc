"""Every kind of forge, on a real server that is told of each merge by a webhook and looks by itself once an hour."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
import yaml

from gitops_mvd import forges
from tests.integration.stories import HEALTH, Story, eventually, manifest, routed, write_settings
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.repository import Hook, PullRequest, Status
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

HOST = "forges"
SECRET_FILE = "/etc/gitops-mvd/webhook"
PENDING, GREEN, RED = "pending", "success", "failure"
WORDS = {  # of each forge, for what is pending, green and red
    "azure-devops": ("pending", "succeeded", "failed"),
    "bitbucket-cloud": ("INPROGRESS", "SUCCESSFUL", "FAILED"),
    "bitbucket-dc": ("INPROGRESS", "SUCCESSFUL", "FAILED"),
    "forgejo": ("pending", "success", "failure"),
    "gitea": ("pending", "success", "failure"),
    "github": ("pending", "success", "failure"),
    "gitlab": ("running", "success", "failed"),
}
SOON = {"x-mvd": {"health": {**HEALTH, "within": "2s"}}}


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Iterator[Story]:
    """A server of our own."""
    repository = lab.forge.create("acme/forges")
    repository.commit({"README.md": "Forges\n"}, "Begin")
    server = lab.server(HOST)
    yield Story.set_up(lab, server, repository)
    server.destroy()


def speak(lab: Lab, stage: Story, kind: str, **more: Any) -> Story:
    """Have the server report to a forge of that kind, and be told of what happens there."""
    dialect = next(iter(forges.known()[kind].names))
    name = stage.repository.name
    written = yaml.safe_load(stage.run("cat", SETTINGS))
    written["interval"] = "1h"
    written["forge"] = {
        "kind": kind,
        "base_url": lab.forge.url + lab.forge.dialects[dialect].BASE,
        "repository": f"lab/{name}" if kind == "azure-devops" else name,
        "every_commit": True,
        **more,
    }
    written["webhook"] = {"listen": "0.0.0.0:9180", "secret_file": SECRET_FILE}
    secret = secrets.token_hex(16)
    stage.server.put(SECRET_FILE, f"{secret}\n", 0o600)
    write_settings(stage, yaml.safe_dump(written), "listening for webhooks at=")
    stage.repository.hooks[:] = [Hook(f"http://{stage.server.ip}:9180/webhook", secret, dialect)]
    return replace(stage, dialect=dialect)


def posted(story: Story, commit: str) -> list[str]:
    """What the server told of a commit, in the forge's own words.

    It may be pending for another reason, as where Docker was started a moment ago and is not blamed for anything.
    """
    return in_turn(status for status in story.repository.statuses(commit) if status.context == story.context)


def in_turn(statuses: Iterable[Status]) -> list[str]:
    """The states, each as long as it lasts."""
    return [state for state, _ in groupby(status.state for status in statuses)]


def planned(story: Story, pull_request: PullRequest, state: str) -> str:
    """What the server says that a pull request would do."""

    def told() -> list[tuple[str, str]]:
        statuses = story.repository.statuses(pull_request.commit)
        return [(one.state, one.description) for one in statuses if one.context == f"{story.context}/plan"]

    eventually("the plan of a pull request", told)
    [(said, description)] = told()
    assert said == state
    return description


@pytest.mark.parametrize("kind", sorted(WORDS.keys() - {"forgejo"}))
def test_a_forge_is_told_in_its_own_words_and_wakes_the_daemon(lab: Lab, stage: Story, kind: str) -> None:
    pending, green, red = WORDS[kind]
    good = lab.registry.push("told", kind, service.web("told", kind))
    sick = lab.registry.push("told", f"{kind}-sick", service.sick("told", "sick"))
    story = speak(lab, stage, kind, proposals={"comment": True})

    begun = story.deploy("told", {"services": {"web": routed(good, "/told")}})
    story.answers("/told", f"told {kind}")
    assert posted(story, begun) == [pending, green]

    idle = story.merge({"README.md": f"{kind}\n"}, "Change nothing that runs")
    assert story.ends(idle, "success") == "nothing to do here"
    assert posted(story, idle) == [green]

    changed = manifest("told", {"services": {"web": routed(good, "/told", environment={"NEW": "1"})}})
    pull_request = story.repository.propose(changed, "Change it")
    assert planned(story, pull_request, green) == "no downtime; told/web: env NEW added"
    eventually("the comment", lambda: pull_request.comments)
    assert "```diff\n+ web: env NEW added\n```" in pull_request.comments[0].text
    story.repository.amend(pull_request, manifest("told", {"services": {"web": routed(good, "/elsewhere")}}))
    told = "only route changes; nothing restarts; told/web: route /told removed · route /elsewhere added"
    assert planned(story, pull_request, green) == told
    eventually("the comment as it is now", lambda: pull_request.commit[:7] in pull_request.comments[0].text)
    assert [comment.times for comment in pull_request.comments] == [2]
    story.repository.close(pull_request)

    bad = story.merge(manifest("told", {"services": {"web": routed(sick, "/told") | SOON}}), "Fall ill")
    assert story.ends(bad, "failure") == "told: web: http 500 from /health for 2 s; rolled back"
    assert posted(story, bad) == [pending, red]
    assert story.ends(story.revert(bad), "success").endswith(f"told: same version as in {begun[:7]} (reverted)")
    story.answers("/told", f"told {kind}")
    assert {delivery.status for delivery in story.repository.deliveries} <= {202}


def test_an_environment_shows_what_runs_and_a_bad_version_leaves_the_one_before_active(lab: Lab, stage: Story) -> None:
    well, newer = (lab.registry.push("shown", tag, service.web("shown", tag)) for tag in ("1", "2"))
    sick = lab.registry.push("shown", "sick", service.sick("shown", "sick"))
    story = speak(lab, stage, "github", environment="{host}")

    def deployments() -> list[tuple[str, str, list[str]]]:
        found = story.repository.deployments
        return [(one.commit, one.environment, in_turn(one.statuses)) for one in found]

    first = story.deploy("shown", {"services": {"web": routed(well, "/shown")}})
    eventually("the deployment", lambda: deployments() == [(first, HOST, ["in_progress", "success"])])
    bad = story.merge(manifest("shown", {"services": {"web": routed(sick, "/shown") | SOON}}), "Fall ill")
    story.ends(bad, "failure")
    failed = bad, HOST, ["in_progress", "failure"]
    eventually("its failure", lambda: deployments() == [(first, HOST, ["in_progress", "success"]), failed])
    story.answers("/shown", "shown 1")
    second = story.deploy("shown", {"services": {"web": routed(newer, "/shown")}})
    retired = first, HOST, ["in_progress", "success", "inactive"]
    eventually("the new one", lambda: deployments() == [retired, failed, (second, HOST, ["in_progress", "success"])])


def test_every_kind_of_forge_is_told_of() -> None:
    assert WORDS.keys() == set(forges.kinds())
