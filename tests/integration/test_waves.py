"""Five servers that deploy in three waves, and know of each other by commit statuses alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.integration.stories import DAEMON, HEALTH, Story, eventually, manifest, no_api
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

BAKE_SECONDS = 5
UK = {"labels": {"region": "uk"}}
HOSTS: dict[str, dict[str, Any]] = {"canary": {}, "uk-1": UK, "uk-2": UK, "de-1": {}, "de-2": {}}
ROLLOUT = {"waves": [["canary"], ["region=uk"], ["*"]], "bake": f"{BAKE_SECONDS}s", "wave_statuses": True}
SETTINGS_TEXT = """\
repository: {repository}
host: {host}
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
forge: {{kind: github, base_url: "{forge}/api/v3"}}
"""
Fleet = Mapping[str, Story]


def fleet_text(**hosts: Any) -> str:
    return yaml.safe_dump({"hosts": HOSTS | hosts, "rollout": ROLLOUT})


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Fleet]:
    """The servers of the three waves, by their names."""
    repository, wheel = lab.forge.create("acme/waves"), lab.wheel
    repository.commit({"fleet.yaml": fleet_text()}, "Begin")

    def set_up(name: str) -> Story:
        server = lab.server(name)
        server.install(wheel)
        written = SETTINGS_TEXT.format(repository=repository.clone_url, host=name, forge=lab.forge.url)
        server.put(SETTINGS, written)
        server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
        server.exec("mvd", "install")
        return Story(server, repository, "")

    with ThreadPoolExecutor() as pool:
        stories = dict(zip(HOSTS, pool.map(set_up, HOSTS), strict=True))
        yield stories
        list(pool.map(lambda story: story.server.destroy(), stories.values()))


def web(lab: Lab, version: str, *, sick: bool = False) -> Mapping[str, str | None]:
    made = (service.sick if sick else service.web)("waves", version)
    image = lab.registry.push("waves", version, made)
    return manifest("waves", {"services": {"web": {"image": image, "x-mvd": {"health": HEALTH | {"within": "5s"}}}}})


def is_held(story: Story, commit: str, posted: str) -> None:
    """See that a server holds a commit back, and says why at the forge."""

    def is_said() -> bool:
        told = story.told(commit)
        return bool(told) and told[-1][0] == "pending" and told[-1][1].startswith(f"waiting: {posted}")

    eventually(f"that {story.server.name} waits: {posted}", is_said, within=120)


def waits(story: Story, commit: str, posted: str, why: str = "") -> None:
    """See that a server holds a commit back, says why at the forge, and maybe better there."""
    is_held(story, commit, posted)
    why = why or posted
    eventually(
        "that it says so", lambda: re.search(rf"^{commit[:7]} .*waits: {re.escape(why)}", story.mvd("status").out, re.M)
    )
    planned = story.mvd("plan")
    assert (planned.code, f"{commit[:7]} waits: {why}" in planned.err) == (0, True)


def of_waves(story: Story, commit: str) -> dict[str, str]:
    """The statuses that waves have of their own."""
    return {it.context: it.state for it in story.repository.latest(commit) if it.context.startswith("mvd/waves/")}


def ended(story: Story, commit: str) -> float:
    [*_, last] = [it for it in story.repository.statuses(commit) if it.context == story.context]
    assert last.state == "success", last
    return last.at.timestamp()


def images(story: Story) -> set[str]:
    """The tags of the app's images that a server has ever pulled, and still has."""
    return set(story.run("docker", "images", "--format", "{{.Tag}}", "registry.lab:5000/waves").split())


def test_a_rollout_goes_in_waves_stops_and_goes_back(lab: Lab, fleet: Fleet) -> None:
    canary, uk_1, uk_2, de_1, de_2 = fleet.values()
    later = uk_1, uk_2, de_1, de_2
    first = canary.merge(web(lab, "1"), "Deploy 1")
    for story in fleet.values():
        story.ends(first, "success")

    # A bad merge stops at the canary.  The others never begin, and the revert overtakes it.
    bad = canary.merge(web(lab, "bad", sick=True), "Deploy what is sick")
    canary.ends(bad, "failure")
    waits(de_1, bad, "wave 1 (canary) is red: canary: waves: web: ")
    for story in (uk_1, uk_2, de_2):
        is_held(story, bad, "wave 1 (canary) is red: canary: waves: web: ")
    assert of_waves(canary, bad) == {"mvd/waves/1": "failure"}
    before = [story.containers("waves") for story in later]
    revert = canary.revert(bad)
    for story in (*later, canary):
        story.ends(revert, "success")
    assert [story.containers("waves") for story in later] == before
    assert not any("deploying" in description for story in later for _, description in story.told(bad))
    assert [images(story) for story in later] == [{"1"}] * 4
    assert [story.told(bad)[-1] for story in later] == [("error", f"superseded by {revert[:7]}")] * 4

    # A good one passes three waves with a bake.  The forge is down in between, and a daemon is killed.
    good = canary.merge(web(lab, "2"), "Deploy 2")
    canary.ends(good, "success")
    with no_api(lab):
        eventually("that it cannot ask", lambda: "waits: cannot ask: " in uk_1.mvd("status").out)
        uk_1.run("systemctl", "kill", "--signal=KILL", DAEMON)
        eventually("that it runs again", lambda: "waits: cannot ask: " in uk_1.mvd("status").out)
        assert images(uk_1) == {"1"}
    for story in later:
        story.ends(good, "success")
    for earlier, after in ((canary, (uk_1, uk_2)), (uk_1, (de_1, de_2)), (uk_2, (de_1, de_2))):
        for story in after:
            took = ended(story, good) - ended(earlier, good)
            assert took >= BAKE_SECONDS - 1, "the forge's times are whole seconds"

    eventually("the status of each wave", lambda: len(of_waves(canary, good)) == 3)
    assert of_waves(canary, good) == {f"mvd/waves/{number}": "success" for number in (1, 2, 3)}

    # A server is cut off in the middle of its wave: the next one waits, and goes on once it is back.
    uk_2.server.disconnect()
    last = canary.merge(web(lab, "3"), "Deploy 3")
    uk_1.ends(last, "success")
    waits(de_1, last, "wave 2 (region=uk) has not been green for 5 s yet", "wave 2 (region=uk) is not green yet")
    de_1.run("systemctl", "restart", DAEMON)
    assert [images(story) & {"3"} for story in (de_1, de_2)] == [set(), set()]
    assert of_waves(canary, last) == {"mvd/waves/1": "success"}
    uk_2.server.connect()
    for story in (uk_2, de_1, de_2):
        story.ends(last, "success")
    assert min(ended(de_1, last), ended(de_2, last)) - ended(uk_2, last) >= BAKE_SECONDS - 1

    # What changes no app has no status.  A server that it drains says so all the same.
    drained = canary.merge({"fleet.yaml": fleet_text(**{"de-2": {"drain": True}})}, "Drain de-2")
    said = f"drained since {drained[:7]} Drain de-2"
    eventually("that it says so", lambda: said in de_2.mvd("status").out)
    assert "drained" not in de_1.mvd("status").out
    assert not canary.repository.statuses(drained)
