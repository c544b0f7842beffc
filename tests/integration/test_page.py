"""The page of a real server in a real browser: deploys watched, a red one opened from its status, buttons pressed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Eyes, opened
from tests.integration.stories import Story, eventually, routed, write_settings
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.service import Service
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

TOKEN = "the-token-of-the-page-in-the-lab"
PORT = 8650
WEB = """
web:
  listen: "0.0.0.0:{port}"
  url: "http://{ip}:{port}"
  token_file: /etc/gitops-mvd/web-token
"""
UNIT = "gitops-mvd-web"
MOST_MEMORY_BYTES = 60 << 20
WAITS = {"test": ["CMD", "test", "-e", "/www/mood/well"], "interval": "1s", "retries": 90}
DEPLOY_MS = 90_000


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own with the page, which others reach with a token."""
    repository = lab.forge.create("acme/page")
    repository.commit({"README.md": "The page\n"}, "Begin")
    server = lab.server("page")
    story = Story.set_up(lab, server, repository)
    server.put("/etc/gitops-mvd/web-token", f"{TOKEN}\n", 0o640)
    story.run("chgrp", "mvd-act", "/etc/gitops-mvd/web-token")
    write_settings(story, story.run("cat", SETTINGS) + WEB.format(ip=server.ip, port=PORT), "daemon started")
    story.run("mvd", "install", "--web")
    eventually(
        "the page", lambda: story.server.exec("curl", "-sf", f"http://{server.ip}:{PORT}/login", check=False).out
    )
    image = lab.registry.push("steady", "1", service.web("steady", "1"))
    story.deploy("steady", {"services": {"web": routed(image, "/steady", deploy={"replicas": 2})}})
    yield story
    server.destroy()


@pytest.fixture(scope="module")
def eyes(pytestconfig: pytest.Config) -> Iterator[Eyes]:
    with opened(pytestconfig) as eyes:
        yield eyes


@pytest.fixture
def window(eyes: Eyes, story: Story) -> Iterator[Page]:
    """A browser that has logged in."""
    with eyes.window() as window:
        window.goto(f"http://{story.server.ip}:{PORT}/")
        window.get_by_label("Token").fill(TOKEN)
        window.get_by_role("button", name="Log in").click()
        expect(window.get_by_role("link", name="steady")).to_be_visible()
        yield window


def test_it_runs_without_root_and_docker_in_little_memory(story: Story, window: Page) -> None:
    pid = story.run("systemctl", "show", "--value", "--property=MainPID", UNIT).strip()
    status = story.run("cat", f"/proc/{pid}/status")
    user = re.search(r"Uid:\s+(\d+)", status)
    rights = re.search(r"CapEff:\s+(\w+)", status)
    memory = re.search(r"VmRSS:\s+(\d+)", status)
    assert user
    assert rights
    assert memory
    assert int(user[1]) > 0
    assert int(rights[1], 16) == 0
    assert int(memory[1]) << 10 < MOST_MEMORY_BYTES
    asked = ("setpriv", f"--reuid={user[1]}", "--clear-groups", "test", "-w", "/var/run/docker.sock")
    assert story.server.exec(*asked, check=False).code != 0


def test_a_deploy_is_watched_live_from_its_first_step(lab: Lab, story: Story, window: Page, eyes: Eyes) -> None:
    image = lab.registry.push("watched", "1", service.web("watched", "1"))
    story.run("rm", "-rf", "/srv/mood")
    story.run("mkdir", "-p", "/srv/mood")
    web = routed(image, "/watched", volumes=["/srv/mood:/www/mood:ro"], healthcheck=WAITS, **{"x-mvd": {}})
    commit = story.merge({"apps/watched/compose.yaml": json.dumps({"services": {"web": web}})}, "Deploy watched")
    window.goto(f"http://{story.server.ip}:{PORT}/deploys/{commit}")
    expect(window.get_by_role("heading", name="Deploy watched")).to_be_visible(timeout=DEPLOY_MS)
    waits = window.locator(".step.busy", has_text="until")
    expect(waits.first).to_be_visible(timeout=DEPLOY_MS)
    eyes.keep(window, "lab-running-deploy")
    before = waits.first.locator(".time").inner_text()
    expect(waits.first.locator(".time")).not_to_have_text(before)
    story.run("touch", "/srv/mood/well")
    expect(window.get_by_role("heading", name=re.compile("Succeeded in"))).to_be_visible(timeout=DEPLOY_MS)
    eyes.keep(window, "lab-green-deploy")
    assert eyes.violations(window) == []
    story.ends(commit, "success")
    assert story.repository.statuses(commit)[-1].target_url == f"http://{story.server.ip}:{PORT}/deploys/{commit}"


def test_a_red_deploy_is_opened_from_its_status_and_tried_again(
    lab: Lab, story: Story, window: Page, eyes: Eyes
) -> None:
    image = lab.registry.push("ailing", "1", service.crashing("ailing", "1"))
    commit = story.merge(
        {"apps/feeble/compose.yaml": json.dumps({"services": {"web": routed(image, "/feeble")}})}, "Deploy feeble"
    )
    story.ends(commit, "failure")
    with eyes.window() as stranger:  # who follows the link and has not logged in
        stranger.goto(story.repository.statuses(commit)[-1].target_url)
        stranger.get_by_label("Token").fill("wrong")
        stranger.get_by_role("button", name="Log in").click()
        expect(stranger.get_by_text("the token is wrong")).to_be_visible()
        stranger.get_by_label("Token").fill(TOKEN)
        stranger.get_by_role("button", name="Log in").click()
        expect(stranger.get_by_role("heading", name="Deploy feeble")).to_be_visible()
        expect(stranger.locator(".results .reason")).to_contain_text("exited with code 1")
        expect(stranger.locator(".step.bad").first).to_be_visible()
        eyes.keep(stranger, "lab-red-deploy")
        assert eyes.violations(stranger) == []
    window.goto(f"http://{story.server.ip}:{PORT}/apps/feeble")
    tried = story.log().count("retry asked app=feeble by=web")
    window.get_by_role("button", name="Retry").click()
    expect(window.get_by_text("feeble: its failed version is tried again now")).to_be_visible()
    assert story.log().count("retry asked app=feeble by=web") == tried + 1
    story.remove("feeble")


def test_an_app_is_suspended_and_resumed_by_its_buttons(story: Story, window: Page, eyes: Eyes) -> None:
    window.goto(f"http://{story.server.ip}:{PORT}/apps/steady")
    expect(window.locator("svg.drawing")).to_contain_text("Kong")
    expect(window.locator("svg.drawing")).to_contain_text("2 of 2 ready")
    window.get_by_text("Suspend…").click()
    window.get_by_label("Why").fill("tried in a browser")
    window.get_by_role("button", name="Suspend steady").click()
    expect(window.get_by_text("steady is suspended")).to_be_visible()
    assert "tried in a browser" in story.mvd("doctor").out
    eyes.keep(window, "lab-suspended-app")
    window.get_by_role("button", name="Resume").click()
    expect(window.get_by_text("steady is suspended")).to_be_hidden()
    assert "tried in a browser" not in story.mvd("doctor").out


def test_a_log_is_followed_across_replicas_and_says_nothing_to_the_browser(
    lab: Lab, story: Story, window: Page, eyes: Eyes
) -> None:
    line, red = 'echo "line $n <script>alert(1)</script>"', "printf '\\033[31mred\\033[0m\\n'"
    says = f"n=0; while :; do n=$((n+1)); {line}; {red}; sleep 1; done"
    chatty = replace(Service(("sh", "-c", f"trap 'exit 0' TERM; {says}")), environment={"VERSION": "1"})
    image = lab.registry.push("chatty", "1", chatty)
    story.deploy("chatty", {"services": {"web": {"image": image, "deploy": {"replicas": 2}}}})
    window.goto(f"http://{story.server.ip}:{PORT}/logs/chatty")
    lines = window.locator("#lines > li")
    expect(lines.first).to_be_visible()
    before = lines.count()
    eventually("more lines", lambda: lines.count() > before + 4)
    expect(window.get_by_text("line 1 <script>alert(1)</script>").first).to_be_visible()
    expect(window.locator("#lines > li span", has_text=re.compile("^red$")).first).to_be_visible()
    assert len({it.split("-")[-1] for it in window.locator("#lines > li b").all_inner_texts()}) > 1
    eyes.keep(window, "lab-logs")
    story.remove("chatty")


def test_the_page_greys_while_the_daemon_is_away_and_comes_back_by_itself(
    story: Story, window: Page, eyes: Eyes
) -> None:
    with story.without_daemon():
        expect(window.get_by_text("does not answer since")).to_be_visible(timeout=DEPLOY_MS)
        expect(window.get_by_role("link", name="steady")).to_be_visible()
        eyes.keep(window, "lab-silent")
    expect(window.get_by_text("does not answer since")).to_be_hidden(timeout=DEPLOY_MS)


def test_plan_events_and_doctor_come_from_the_server(story: Story, window: Page, eyes: Eyes) -> None:
    for path, words in (("plan", "No changes"), ("events", "daemon started"), ("doctor", "repository")):
        window.goto(f"http://{story.server.ip}:{PORT}/{path}")
        expect(window.get_by_text(words).first).to_be_visible()
        assert eyes.violations(window) == []
        eyes.keep(window, f"lab-{path}")


def test_root_of_the_server_acts_under_its_own_name_without_a_login(story: Story) -> None:
    before = story.run("cat", SETTINGS)
    alone = before.replace('listen: "0.0.0.0:8650"', 'listen: "127.0.0.1:8650"')
    alone = re.sub(r"  (?:url|token_file): .*\n", "", alone)
    write_settings(story, alone, "daemon started")
    try:
        story.run("systemctl", "restart", UNIT)
        curl = ("curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "-L")
        text = story.run(*curl, "http://127.0.0.1:8650/")
        seal = re.search(r'name="seal" value="([0-9a-f]+)"', text)
        assert seal
        story.run(*curl, "-d", f"seal={seal[1]}", "http://127.0.0.1:8650/sync")
        assert "sync asked by=root" in story.log()
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        text = story.run(*nobody, *curl, "http://127.0.0.1:8650/")
        assert "join the group mvd-act" in text
        assert "steady" in text
    finally:
        write_settings(story, before, "daemon started")
        story.run("systemctl", "restart", UNIT)
