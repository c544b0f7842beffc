"""Three servers that deploy one after the other, and know of each other by commit statuses alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import yaml

from tests.integration.stories import DAEMON, HEALTH, Story, eventually, manifest, no_api
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

BAKE_SECONDS = 5
HOSTS = {"canary": {}, "uk": {"labels": {"region": "uk"}}, "de": {}}
ROLLOUT = {"waves": [["canary"], ["region=uk"], ["*"]], "bake": f"{BAKE_SECONDS}s"}
SETTINGS_TEXT = """\
repository: {repository}
host: {host}
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
forge: {{kind: github, base_url: "{forge}/api/v3"}}
"""
Fleet = tuple[Story, Story, Story]


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Fleet]:
    """The servers of the three waves."""
    repository = lab.forge.create("acme/waves")
    repository.commit({"fleet.yaml": yaml.safe_dump({"hosts": HOSTS, "rollout": ROLLOUT})}, "Begin")
    stories = []
    for name in HOSTS:
        server = lab.server(name)
        server.install(lab.wheel)
        written = SETTINGS_TEXT.format(repository=repository.clone_url, host=name, forge=lab.forge.url)
        server.put(SETTINGS, written)
        server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
        server.exec("mvd", "install")
        stories.append(Story(server, repository, ""))
    canary, uk, de = stories
    yield canary, uk, de
    for story in stories:
        story.server.destroy()


def web(lab: Lab, version: str, *, sick: bool = False) -> Mapping[str, str | None]:
    made = (service.sick if sick else service.web)("waves", version)
    image = lab.registry.push("waves", version, made)
    return manifest("waves", {"services": {"web": {"image": image, "x-mvd": {"health": HEALTH | {"within": "5s"}}}}})


def waits(story: Story, commit: str, posted: str, why: str = "") -> None:
    """See that a server holds a commit back, and says why at the forge, and maybe better there."""

    def is_said() -> bool:
        told = story.told(commit)
        return bool(told) and told[-1][0] == "pending" and told[-1][1].startswith(f"waiting: {posted}")

    eventually(f"that {story.server.name} waits: {posted}", is_said, within=120)
    why = why or posted
    eventually("that it says so", lambda: f"waits: {why}" in story.mvd("status").out)
    assert f"{commit[:7]} " in story.mvd("status").out
    planned = story.mvd("plan")
    assert (planned.code, f"{commit[:7]} waits: {why}" in planned.err) == (0, True)


def ended(story: Story, commit: str) -> float:
    [*_, last] = [it for it in story.repository.statuses(commit) if it.context == story.context]
    assert last.state == "success", last
    return last.at.timestamp()


def images(story: Story) -> set[str]:
    """The tags of the app's images that a server has ever pulled, and still has."""
    return set(story.run("docker", "images", "--format", "{{.Tag}}", "registry.lab:5000/waves").split())


def test_a_rollout_goes_in_waves_stops_and_goes_back(lab: Lab, fleet: Fleet) -> None:
    canary, uk, de = fleet
    first = canary.merge(web(lab, "1"), "Deploy 1")
    for story in fleet:
        story.ends(first, "success")

    # A bad merge stops at the canary.  The others never begin, and the revert overtakes it.
    bad = canary.merge(web(lab, "bad", sick=True), "Deploy what is sick")
    canary.ends(bad, "failure")
    for story in (uk, de):
        waits(story, bad, "wave 1 (canary) is red: canary: waves: web: ")
    before = [story.containers("waves") for story in (uk, de)]
    revert = canary.revert(bad)
    for story in (uk, de, canary):
        story.ends(revert, "success")
    assert [story.containers("waves") for story in (uk, de)] == before
    assert not any("deploying" in description for story in (uk, de) for _, description in story.told(bad))
    assert [images(story) for story in (uk, de)] == [{"1"}, {"1"}]
    assert uk.told(bad)[-1] == ("error", f"superseded by {revert[:7]}")

    # A good one passes three waves with a bake.  The forge is down in between, and a daemon is killed.
    good = canary.merge(web(lab, "2"), "Deploy 2")
    canary.ends(good, "success")
    with no_api(lab):
        eventually("that it cannot ask", lambda: "waits: cannot ask: " in uk.mvd("status").out)
        uk.run("systemctl", "kill", "--signal=KILL", DAEMON)
        eventually("that it runs again", lambda: "waits: cannot ask: " in uk.mvd("status").out)
        assert images(uk) == {"1"}
    for story in (uk, de):
        story.ends(good, "success")
    for earlier, later in ((canary, uk), (uk, de)):
        assert ended(later, good) - ended(earlier, good) >= BAKE_SECONDS - 1, "the forge's times are whole seconds"

    # A server is cut off in the middle of its wave: the next one waits, and goes on once it is back.
    uk.server.disconnect()
    last = canary.merge(web(lab, "3"), "Deploy 3")
    canary.ends(last, "success")
    waits(de, last, "wave 2 (region=uk) has not been green for 5 s yet", "wave 2 (region=uk) is not green yet")
    de.run("systemctl", "restart", DAEMON)
    assert "3" not in images(de)
    uk.server.connect()
    for story in (uk, de):
        story.ends(last, "success")
    assert ended(de, last) - ended(uk, last) >= BAKE_SECONDS - 1

    # What changes nothing has no status, and what changes one server has one.
    nothing = canary.merge({"README.md": "Waves\n"}, "Write")
    eventually("that it is followed", lambda: nothing in de.mvd("status", "--json").out)
    assert not canary.repository.statuses(nothing)
