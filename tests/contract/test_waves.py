"""Waves over real git and a real forge: four daemons that know of each other by commit statuses alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops_mvd import forges
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import CommitStatus, Health, Operation
from gitops_mvd.daemon.mailbox import Mailbox
from gitops_mvd.daemon.small_server import LogThrottle, Server, listen
from gitops_mvd.daemon.triggers import STATUS
from gitops_mvd.daemon.webhook import Webhooks
from gitops_mvd.git.branch import Source
from gitops_mvd.state.history import FleetEntry
from tests import fleet_world
from tests.fleet_world import compose
from tests.lab.forge import Forge
from tests.lab.repository import Hook
from tests.threads import serving

SECRET = "of-sixteen-or-more"
LABELS = {"canary": {}, "uk-1": {"region": "uk"}, "uk-2": {"region": "uk"}, "de-1": {"region": "de"}}
WAVES = [["canary"], ["region=uk"], ["*"]]


def fleet(hosts: Any = None, **rollout: Any) -> str:
    hosts = hosts or {name: {"labels": labels} for name, labels in LABELS.items()}
    return yaml.safe_dump({"hosts": hosts, "rollout": {"waves": WAVES, **rollout}})


class World(fleet_world.World):
    def merge(self, message: str = "Deploy", **images: str) -> str:
        """A commit with these images, by app; `fleet` is the text of the fleet file."""
        files: dict[str, str | None] = {
            "fleet.yaml" if name == "fleet" else f"apps/{name}/compose.yaml": text if name == "fleet" else compose(text)
            for name, text in images.items()
        }
        return self.repository.commit(files, message)

    def settle(self) -> None:
        for _ in range(3):
            self.poll()

    def runs(self, app: str = "web") -> dict[str, str]:
        return {name: "".join(it.images(app)) for name, it in self.members.items()}

    def posts(self, commit: str) -> int:
        return len(self.repository.statuses(commit))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Forge(tmp_path / "forge") as server, closing(World(server, tmp_path, LABELS)) as made:
        made.merge(fleet=fleet(), web="v1")
        made.settle()
        assert set(made.runs().values()) == {"v1"}
        yield made


def everywhere(image: str) -> dict[str, str]:
    return dict.fromkeys(LABELS, image)


def test_the_first_commit_of_all_goes_by_the_waves_too(tmp_path: Path) -> None:
    with Forge(tmp_path / "forge") as server:
        world = World(server, tmp_path, LABELS)
        commit = world.merge(fleet=fleet(), web="v1")
        world.poll("uk-1", "de-1")
        assert world.runs() == everywhere("")
        assert world.told(commit)["uk-1"] == ("pending", "waiting: wave 1 (canary) is not green yet")
        world.poll("canary", "de-1", "uk-1", "uk-2")
        assert world.runs() == {**everywhere("v1"), "de-1": ""}
        world.poll("de-1")
        assert world.runs() == everywhere("v1")
        world.close()


def test_a_commit_goes_from_wave_to_wave(world: World) -> None:
    commit = world.merge(web="v2")
    world.poll("de-1", "uk-1")
    assert world.runs() == everywhere("v1")
    world.poll("canary", "de-1", "uk-1")
    assert world.runs() == {**everywhere("v1"), "canary": "v2", "uk-1": "v2"}
    world.poll("de-1")
    assert world.told(commit)["de-1"] == ("pending", "waiting: wave 2 (region=uk) is not green yet")
    world.poll("uk-2", "de-1")
    assert world.runs() == everywhere("v2")
    assert {state for state, _ in world.told(commit).values()} == {"success"}


class Ears:
    """The webhook listeners of all hosts, to which the forge tells of every status."""

    def __init__(self, world: World, serve: ExitStack) -> None:
        self.world, self.mailboxes = world, {name: Mailbox() for name in LABELS}
        self.told = 0  # that many deliveries are accounted for
        for name, mailbox in self.mailboxes.items():
            throttle, listener = LogThrottle(), listen("127.0.0.1", 0)
            receiver, awaited = forges.known()["github"], world.members[name].waves.awaited
            application = Webhooks(receiver, SECRET, "main", awaited, mailbox.post, throttle)
            serve.enter_context(serving(Server(listener, application, throttle, "webhook refused")))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/webhook"
            world.repository.hooks.append(Hook(url, SECRET, statuses=True))

    def woken_by_poll_of(self, *names: str) -> set[str]:
        """The hosts that are woken by what these have posted, once the forge has told all hosts of all of it."""
        before = self._posted()
        self.world.poll(*names)
        self._await_told(self._posted() - before)
        return {name for name, mailbox in self.mailboxes.items() if mailbox.take(0) == {STATUS}}

    def merge(self, **images: str) -> None:
        """A commit, once the forge has told all hosts of it."""
        self.world.merge(**images)
        self._await_told(1)
        for mailbox in self.mailboxes.values():
            mailbox.take(0)

    def _posted(self) -> int:
        return sum(it.method == "POST" for it in self.world.server.asked)

    def _await_told(self, events: int) -> None:
        deliveries, until = self.world.repository.deliveries, time.monotonic() + 30
        self.told += len(self.mailboxes) * events
        while len(deliveries) < self.told and time.monotonic() < until:
            time.sleep(0.01)
        assert [it.status for it in deliveries] == [202] * self.told


def test_the_last_status_that_a_host_waits_for_wakes_it_and_no_other_one_does(world: World) -> None:
    world.merge(web="v2")
    with ExitStack() as serve:
        ears = Ears(world, serve)
        assert ears.woken_by_poll_of("uk-1", "uk-2", "de-1") == set(), "each begins to wait, and tells so"
        asked = len(world.server.asked)
        assert ears.woken_by_poll_of("canary") == {"uk-1", "uk-2", "de-1"}
        posts = [it.method for it in list(world.server.asked)[asked:]]
        assert set(posts) == {"POST"}, "nothing is asked by a webhook alone"
        assert ears.woken_by_poll_of("de-1") == set(), "it waits for two more by now"
        assert ears.woken_by_poll_of("uk-1") == set()
        assert ears.woken_by_poll_of("uk-2") == {"de-1"}
        assert ears.woken_by_poll_of("de-1") == set()
        assert world.runs() == everywhere("v2")
        ears.merge(shop="v1")
        assert ears.woken_by_poll_of("canary") == set(), "no other host has seen that commit yet"


def test_a_bad_commit_stops_at_the_canary_and_a_revert_overtakes_it(world: World) -> None:
    bad = world.merge(web="sick")
    world.settle()
    assert world.runs() == everywhere("v1")
    assert all("sick" not in key[1] for name in ("uk-1", "uk-2", "de-1") for key in world.members[name].host.starts)
    state, why = world.told(bad)["de-1"]
    assert (state, why[:58]) == ("pending", "waiting: wave 1 (canary) is red: canary: web: web: http 50")
    assert world.members["uk-1"].held().startswith(f"{bad[:7]} wave 1 (canary) is red: canary: ")

    revert = world.repository.revert(bad)
    world.poll("de-1", "uk-1", "uk-2")
    assert world.runs() == everywhere("v1")
    assert world.members["de-1"].held() == ""
    assert world.told(revert)["de-1"][0] == "success", "it waits for nobody"
    assert world.told(bad)["de-1"] == ("error", f"superseded by {revert[:7]}")


def test_a_commit_behind_a_bad_one_does_not_take_it_along(world: World) -> None:
    world.merge(web="sick")
    world.settle()
    world.merge(shop="v1")
    world.settle()
    assert world.runs("shop") == {**everywhere(""), "canary": "v1"}
    world.merge(web="v2")
    world.settle()
    assert world.runs("shop") == everywhere("v1")
    assert world.runs() == everywhere("v2")


def test_a_wave_that_turns_red_while_it_bakes_stops_the_next_one(world: World) -> None:
    world.merge(fleet=fleet(bake="1h"))
    world.settle()
    commit = world.merge(web="v2")
    world.settle()
    assert world.runs() == {**everywhere("v1"), "canary": "v2"}
    assert "wave 1 (canary) bakes until " in world.members["uk-1"].held()
    for member in world.members.values():
        member.clock_behind = 3700.0
    world.poll("uk-1")
    assert world.runs()["uk-1"] == "v2"
    world.members["canary"].host.resources.clear()
    canary = world.members["canary"]
    canary.forge.publish(commit, red(canary.name))
    world.poll("uk-2")
    assert "wave 1 (canary) is red: canary: it fell ill" in world.members["uk-2"].held()
    assert world.runs()["uk-2"] == "v1"


def red(host: str) -> Any:
    from gitops_mvd.core.model import CommitStatus, Health, Operation

    return CommitStatus(f"mvd/{host}", Operation.SUCCEEDED, Health.DEGRADED, "it fell ill")


def test_a_forge_that_is_down_holds_and_is_made_up_for(world: World) -> None:
    world.merge(web="v2")
    world.poll("canary")
    world.server.api_down = True
    world.poll("uk-1", "de-1", "uk-2")
    assert world.runs() == {**everywhere("v1"), "canary": "v2"}
    assert "cannot ask: " in world.members["uk-1"].held()
    world.server.api_down = False
    for member in world.members.values():
        member.later = 600.0  # until then, what could not be posted is put off
    world.settle()
    assert world.runs() == everywhere("v2")


def test_a_restart_or_a_lost_state_in_the_middle_decides_the_same(world: World) -> None:
    world.merge(web="sick")
    world.settle()
    for member in world.members.values():
        member.restart()
    world.settle()
    assert world.runs() == everywhere("v1")
    lost = world.members["de-1"]
    lost.end()
    (lost.folder / "history.db").unlink()
    lost.start()
    lost.poll()
    assert "wave 1 (canary) is red" in lost.held()
    assert world.runs()["de-1"] == "v1"


@pytest.mark.parametrize("commits", [0, 40])
def test_a_server_that_is_set_up_late_begins_with_what_has_passed(tmp_path: Path, commits: int) -> None:
    """Also where its mirror has not the whole history."""
    with Forge(tmp_path / "forge") as server:
        world = World(server, tmp_path, LABELS)
        here = "canary", "uk-1", "uk-2"
        for n in range(commits):
            world.repository.commit({"README.md": f"{n}"}, "Write")
        world.merge(fleet=fleet(), web="v1")
        world.poll(*here)
        world.merge(web="sick")
        world.poll(*here)
        late = world.members["de-1"]
        late.source = Source(world.repository.path.as_uri(), "main", tmp_path / "shallow")
        late.restart()
        late.poll()
        assert world.runs() == everywhere("v1")
        assert "wave 1 (canary) is red" in late.held()
        world.close()


def test_only_hosts_that_a_commit_changes_post_to_it(world: World) -> None:
    nothing = world.repository.commit({"README.md": "text\n"}, "Write")
    world.settle()
    assert world.posts(nothing) == 0
    here = world.repository.commit({"apps/uk/compose.yaml": compose("v1", "node.labels.region == uk")}, "Deploy uk")
    world.settle()
    assert world.told(here).keys() == {"uk-1", "uk-2"}, (
        "and none of them waited for the canary, which it does not change"
    )
    assert {state for state, _ in world.told(here).values()} == {"success"}


def test_a_host_that_is_gone_counts_as_the_rollout_says(world: World) -> None:
    world.merge(fleet=fleet(silent={"after": "15m", "counts_as": "green"}))
    world.settle()
    commit = world.merge(web="v2")
    world.poll("canary", "uk-1", "de-1")
    assert "wave 2 (region=uk) is not green yet" in world.members["de-1"].held()
    waves = world.members["de-1"].waves
    waves.monotonic = lambda began=waves.monotonic: began() + 901.0  # type: ignore[misc]
    world.poll("de-1")
    assert world.runs() == {**everywhere("v2"), "uk-2": "v1"}
    assert world.told(commit)["de-1"][0] == "success"


def test_an_approval_and_an_emergency_are_trailers(world: World) -> None:
    world.merge(fleet=fleet(approval="Approved-by", bake="1h"))
    world.settle()
    world.merge(web="v2")
    world.settle()
    for member in world.members.values():
        member.clock_behind = 3700.0
    world.settle()
    assert world.members["uk-1"].held().endswith("no commit has the trailer Approved-by yet")
    world.repository.commit({"NOTES.md": "yes\n"}, "Approve\n\nApproved-by: anna")
    world.poll("uk-1", "uk-2")
    assert world.runs() == {**everywhere("v2"), "de-1": "v1"}
    world.merge("Mend it\n\nRollout: all", web="v3")
    world.poll("de-1", "uk-2")
    assert world.runs() == {**everywhere("v2"), "de-1": "v3", "uk-2": "v3"}


def test_a_wave_has_a_status_of_its_own_if_the_fleet_wants_one(world: World) -> None:
    world.merge(fleet=fleet(wave_statuses=True))
    world.settle()
    commit = world.merge(web="v2")
    world.poll("canary")
    assert world.told(commit)["waves/1"] == ("success", "1 of 1 green")
    world.poll("uk-1")
    assert "waves/2" not in world.told(commit), "what has no status yet is awaited by a branch protection, too"
    world.poll("uk-2", "de-1")
    waves = {name: said for name, said in world.told(commit).items() if name.startswith("waves/")}
    assert waves == {f"waves/{n}": ("success", f"{hosts} of {hosts} green") for n, hosts in ((1, 1), (2, 2), (3, 1))}
    assert world.posts(commit) == len(LABELS) + 3, "nobody had to wait, and each wave ends once"

    here = world.repository.commit({"apps/uk/compose.yaml": compose("v1", "node.labels.region == uk")}, "Deploy uk")
    world.settle()
    assert world.told(here).keys() == {"uk-1", "uk-2", "waves/2"}, "a wave in which it changes nothing has none"


def test_a_wave_is_red_as_soon_as_one_of_its_hosts_is_and_green_again_with_it(world: World) -> None:
    world.merge(fleet=fleet(wave_statuses=True))
    world.settle()
    commit = world.merge(web="v2")
    world.settle()
    uk_1 = world.members["uk-1"]
    for state, operation in (("failure", Operation.FAILED), ("success", Operation.SUCCEEDED)):
        health = Health.HEALTHY if operation is Operation.SUCCEEDED else Health.DEGRADED
        uk_1.daemon._wired.statuses._queue(commit, CommitStatus("mvd/uk-1", operation, health, "it is so"))
        uk_1.outbox.deliver()
        assert world.told(commit)["waves/2"][0] == state
    assert world.told(commit)["waves/2"][1] == "2 of 2 green"


def test_a_wave_has_its_status_though_the_forge_fails_in_between(world: World) -> None:
    world.merge(fleet=fleet(wave_statuses=True))
    world.settle()
    commit = world.merge(web="v2")
    canary = world.members["canary"]
    ask = canary.forge.statuses

    def down(commit: str) -> Any:
        raise Unavailable("the forge does not answer")

    canary.forge.statuses = down
    world.poll("canary")
    assert world.told(commit)["canary"][0] == "success"
    assert "waves/1" not in world.told(commit)
    canary.forge.statuses = ask
    canary.later = 600.0  # until then, it is put off
    world.poll("canary")
    assert world.told(commit)["waves/1"] == ("success", "1 of 1 green")
    ends = [it.context for it in world.repository.statuses(commit) if it.state == "success"]
    assert ends == ["mvd/canary", "mvd/waves/1"], "a bake would begin anew with the same end once more"


def test_a_host_knows_its_wave_and_the_commit_that_drained_it(world: World) -> None:
    member = world.members["uk-1"]
    assert member.history.fleet_entry() == FleetEntry(2)
    hosts = yaml.safe_load(fleet())["hosts"]
    hosts["uk-1"]["drain"] = True
    drained = world.merge("Drain uk-1", fleet=fleet(hosts=hosts))
    world.repository.commit({"README.md": "Later\n"}, "Write")
    member.poll()

    def since() -> tuple[bool, str]:
        entry = member.history.fleet_entry()
        return entry.is_drained, entry.since.commit if entry.since else ""

    assert since() == (True, drained), "though it has never followed that commit itself"
    member.end()
    (member.folder / "history.db").unlink()
    member.start()
    world.merge(web="v2")
    world.settle()
    assert since() == (True, drained)
    assert not world.members["uk-2"].history.fleet_entry().is_drained
    world.merge(fleet=fleet())
    member.poll()
    assert since() == (False, "")


def test_without_a_forge_in_its_settings_a_host_of_a_later_wave_is_held_with_the_cause(world: World) -> None:
    member = world.members["uk-1"]
    member.waves.forge = None
    world.merge(web="v2")
    world.poll("canary", "uk-1")
    assert "cannot ask: the settings of this server have no `forge`" in member.held()
    assert world.runs()["uk-1"] == "v1"


def test_a_fleet_that_cannot_be_read_is_told_as_before(world: World) -> None:
    broken = world.merge(fleet="hosts: [")
    world.poll("de-1")
    assert world.told(broken)["de-1"][0] == "failure"
    assert world.runs()["de-1"] == "v1"
    world.merge(fleet=fleet(), web="v2")
    world.settle()
    assert world.runs() == everywhere("v2")
