"""Who is notified of what a real server does, and what it does while nobody takes its notifications."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.contract.receivers import Receiver, free_port, webhook
from tests.integration.stories import DAEMON, Story, eventually, manifest, routed, write_settings
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

ADDRESS_FILE = "/etc/gitops-mvd/team-url"
SEVERAL_PASSES_SECONDS = 8.0  # of a server that looks every two seconds
MOST_MEMORY = 60 << 10  # kB, of the daemon


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def story(lab: Lab, port: int) -> Iterator[Story]:
    """A server of our own, which notifies a webhook."""
    repository = lab.forge.create("acme/notify")
    repository.commit({"README.md": "Notify\n"}, "Begin")
    server = lab.server("notify")
    story = Story.set_up(lab, server, repository)
    server.put(ADDRESS_FILE, f"json://{lab.address}:{port}/team\n", 0o600)
    write_settings(story, f"{story.run('cat', SETTINGS)}notify: [{{url_file: {ADDRESS_FILE}}}]\n", "daemon started")
    yield story
    server.destroy()


def titles(receiver: Receiver) -> list[str]:
    return [str(body["title"]) for _, body in receiver.seen]


def good_and_bad(lab: Lab, name: str) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """The files of an app that gets healthy, and of one that does not."""
    image = lab.registry.push(name, "1", service.web(name, "1"))
    well = routed(image, f"/{name}")
    bad = {**well, "command": ["false"]}
    return manifest(name, {"services": {"web": well}}), manifest(name, {"services": {"web": bad}})


def test_a_bad_merge_is_one_message_and_its_revert_another(lab: Lab, story: Story, port: int) -> None:
    good, bad = good_and_bad(lab, "shop")
    with webhook(port, lab.address) as receiver:
        story.ends(story.merge(good, "Deploy shop"), "success")
        commit = story.merge(bad, "Break shop")
        story.ends(commit, "failure")
        eventually("a message", lambda: titles(receiver))
        time.sleep(SEVERAL_PASSES_SECONDS)
        story.run("systemctl", "restart", DAEMON)
        time.sleep(SEVERAL_PASSES_SECONDS)
        assert titles(receiver) == ["shop on notify failed"], "once, however many passes and restarts there are"
        [(path, body)] = receiver.seen
        first, second, last = str(body["message"]).splitlines()
        assert path == "/team"
        assert body["type"] == "failure"
        assert first.startswith("shop on notify failed: web: exited with code 1")
        assert first.endswith("; rolled back")
        assert (second, last) == (f"commit {commit[:7]} Break shop", "look: mvd status shop")

        story.ends(story.revert(commit), "success")
        eventually("a second message", lambda: len(titles(receiver)) > 1)
        time.sleep(SEVERAL_PASSES_SECONDS)
        assert titles(receiver) == ["shop on notify failed", "shop on notify recovered"]
    assert "json://" not in story.log(), "the address is a secret"


def test_a_receiver_that_is_down_holds_up_no_deploy_and_gets_one_message_later(
    lab: Lab, story: Story, port: int
) -> None:
    good, bad = good_and_bad(lab, "till")
    story.ends(story.merge(good, "Deploy till"), "success")
    story.ends(story.merge(bad, "Break till"), "failure")
    eventually("that doctor knows it", lambda: "team-url: failing since" in story.mvd("doctor").out)
    assert "connection refused" in story.mvd("doctor").out
    said = story.mvd("notify", "--test")
    assert said.code == 1
    assert "team-url  failed" in said.out
    story.ends(story.merge(good, "Mend till"), "success")
    with webhook(port, lab.address) as receiver:
        eventually("the message", lambda: titles(receiver), 120)
        assert titles(receiver) == ["till on notify failed and recovered"]
        assert story.mvd("notify", "--test").code == 0
        assert titles(receiver)[1:] == ["notify: test of notifications"]
        eventually("that doctor knows it", lambda: "failing since" not in story.mvd("doctor").out)


def test_the_daemon_has_no_more_in_its_memory_for_it(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    pid = story.run("systemctl", "show", "--value", "--property=MainPID", DAEMON).strip()
    used = int(story.run("sed", "-n", r"s/^VmRSS:\s*\([0-9]*\) kB/\1/p", f"/proc/{pid}/status"))
    with capsys.disabled():
        print(f"\nthe daemon uses {used >> 10} MB")
    assert used < MOST_MEMORY
