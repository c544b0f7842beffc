"""Apps that move between servers, over real git and a real forge: daemons that know of each other by statuses alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops_mvd.status.verdict import Judge
from tests import fleet_world
from tests.fleet_world import compose
from tests.lab.forge import Forge

HOSTS = ("a", "b", "c", "d")


def fleet(*gone: str, rollout: Any = None, apps: Any = None, drained: tuple[str, ...] = (), **labels: str) -> str:
    """Each host has the labels that it is given: `a="web shop"`; those that are `gone` are no hosts any more."""
    hosts = {
        name: {"labels": dict.fromkeys(labels.get(name, "").split(), True), "drain": name in drained}
        for name in HOSTS
        if name not in gone
    }
    more = {key: value for key, value in (("rollout", rollout), ("apps", apps)) if value}
    return yaml.safe_dump({"hosts": hosts, **more})


def placed(app: str, image: str = "v1") -> str:
    return compose(image, f"node.labels.{app} == true")


class World(fleet_world.World):
    def merge(self, message: str = "Move", **files: str | None) -> str:
        """A commit; `fleet` is the text of the fleet file, all else that of an app."""
        at = {name: "fleet.yaml" if name == "fleet" else f"apps/{name}/compose.yaml" for name in files}
        return self.repository.commit({at[name]: text for name, text in files.items()}, message)

    def runs(self, app: str = "web") -> dict[str, str]:
        """What each host that has the app runs of it."""
        return {name: "".join(images) for name, it in self.members.items() if (images := it.images(app))}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Four hosts, of which `a` has the app `web`; each has an app of its own, so that none is ever empty."""
    with Forge(tmp_path / "forge") as server, closing(World(server, tmp_path, HOSTS)) as made:
        made.merge(fleet=fleet(a="web"), web=placed("web"), own=compose("v1"))
        made.poll()
        assert made.runs() == {"a": "v1"}
        yield made


def test_an_app_that_moves_is_let_go_of_once_the_new_host_has_it(world: World) -> None:
    commit = world.merge(fleet=fleet(b="web"))
    world.poll("a")
    assert world.runs() == {"a": "v1"}
    assert world.told(commit)["a"] == ("pending", "keeps web until b has it: b is not green yet")
    world.poll("b")
    assert world.runs() == {"a": "v1", "b": "v1"}
    world.poll("a")
    assert world.runs() == {"b": "v1"}
    assert [world.told(commit)[host][0] for host in "ab"] == ["success", "success"]


def test_all_new_hosts_of_several_must_have_it(world: World) -> None:
    world.merge(fleet=fleet(a="web", b="web"))
    world.poll()
    world.merge(fleet=fleet(c="web", d="web"))
    world.poll("a", "b", "c", "a", "b")
    assert world.runs() == {"a": "v1", "b": "v1", "c": "v1"}
    world.poll("d", "a", "b")
    assert world.runs() == {"c": "v1", "d": "v1"}


def test_fewer_hosts_of_those_that_had_it_wait_for_nobody(world: World) -> None:
    world.merge(fleet=fleet(a="web", b="web"))
    world.poll()
    world.merge(fleet=fleet(b="web"))
    world.poll("a")
    assert world.runs() == {"b": "v1"}


def test_an_app_that_git_no_longer_has_goes_at_once(world: World) -> None:
    world.merge(web=None)
    world.poll("a")
    assert world.runs() == {}


def test_what_fails_on_the_new_host_goes_on_on_the_old_one_until_it_is_mended(world: World) -> None:
    commit = world.merge(fleet=fleet(b="web"), web=placed("web", "sick"))
    world.poll("b", "a")
    assert world.runs() == {"a": "v1"}
    state, why = world.told(commit)["a"]
    assert (state, why) == ("pending", "keeps web until b has it: b: web: web: http 503")
    world.merge(web=placed("web", "v2"))
    world.poll("a", "b", "a")
    assert world.runs() == {"b": "v2"}


def test_a_revert_on_the_way_leaves_all_as_it_was(world: World) -> None:
    first = world.members["a"].host.starts.copy()
    commit = world.merge(fleet=fleet(b="web"))
    world.poll("a", "b")
    world.repository.revert(commit)
    world.poll("b")
    assert world.runs() == {"a": "v1", "b": "v1"}, "b waits for a, too"
    world.poll("a", "b")
    assert world.runs() == {"a": "v1"}
    assert world.members["a"].host.starts == first, "and nothing was started again"


def test_a_host_that_is_dead_is_replaced_at_once(world: World) -> None:
    commit = world.merge(fleet=fleet(b="web"))
    world.poll("b")
    assert world.told(commit)["b"][0] == "success"
    gone = world.merge(fleet=fleet("a", b="web"))
    world.poll("b")
    assert world.runs()["b"] == "v1"
    world.poll("a")
    assert world.runs()["a"] == "v1", "a host that is no longer one changes nothing"
    assert "has no host a" in world.told(gone)["a"][1]


def test_a_new_host_that_is_dead_is_waited_for_as_the_rollout_says(world: World) -> None:
    silent = {"waves": [["*"]], "silent": {"after": "15m", "counts_as": "green"}}
    world.merge(fleet=fleet(a="web", rollout=silent))
    world.poll()
    world.merge(fleet=fleet(b="web", rollout=silent))
    world.poll("a")
    assert world.runs() == {"a": "v1"}
    waves = world.members["a"].waves
    waves.monotonic = lambda began=waves.monotonic: began() + 901.0  # type: ignore[misc]
    world.poll("a")
    assert world.runs() == {}


def test_without_a_rollout_a_new_host_that_is_dead_is_named_for_as_long_as_it_is(world: World) -> None:
    commit = world.merge(fleet=fleet(b="web"))
    world.poll("a")
    waves = world.members["a"].waves
    waves.monotonic = lambda began=waves.monotonic: began() + 1801.0  # type: ignore[misc]
    world.poll("a")
    assert world.runs() == {"a": "v1"}
    assert world.told(commit)["a"][1] == "keeps web until b has it: b has not ended for 30 min"
    world.merge("Give up b\n\nRollout: all", own=compose("v2"))
    world.poll("a")
    assert world.runs() == {}


def test_a_forge_that_is_down_lets_nothing_go(world: World) -> None:
    world.merge(fleet=fleet(b="web"))
    world.poll("b")
    world.server.api_down = True
    world.poll("a")
    assert world.runs() == {"a": "v1", "b": "v1"}
    world.members["a"].restart()
    world.poll("a")
    assert world.runs() == {"a": "v1", "b": "v1"}
    world.server.api_down = False
    for member in world.members.values():
        member.later = 600.0  # until then, what could not be posted is put off
    world.poll("b", "a")
    assert world.runs() == {"b": "v1"}


def test_without_a_forge_hosts_go_on_by_themselves(world: World) -> None:
    world.members["a"].waves.forge = None
    world.merge(fleet=fleet(b="web"))
    world.poll("a")
    assert world.runs() == {}


def test_an_app_that_goes_everywhere_at_once_waits_for_nobody(world: World) -> None:
    world.merge(fleet=fleet(b="web", apps={"web": {"rollout": "none"}}))
    world.poll("a")
    assert world.runs() == {}


def test_apps_that_change_places_wait_for_each_other_and_not_for_ever(world: World) -> None:
    world.merge(fleet=fleet(a="web", b="shop"), shop=placed("shop"))
    world.poll()
    world.merge(fleet=fleet(a="shop", b="web"))
    world.poll("a")
    assert (world.runs("web"), world.runs("shop")) == ({"a": "v1"}, {"a": "v1", "b": "v1"})
    world.poll("b")
    assert (world.runs("web"), world.runs("shop")) == ({"a": "v1", "b": "v1"}, {"a": "v1"})
    world.poll("a")
    assert (world.runs("web"), world.runs("shop")) == ({"b": "v1"}, {"a": "v1"})


def test_apps_that_change_places_and_take_each_others_port_do_not_wait(world: World) -> None:
    def with_port(app: str) -> str:
        read = yaml.safe_load(placed(app))
        read["services"]["web"]["ports"] = ["8080:80"]
        return yaml.safe_dump(read)

    world.merge(fleet=fleet(a="web", b="shop"), web=with_port("web"), shop=with_port("shop"))
    world.poll()
    world.merge(fleet=fleet(a="shop", b="web"))
    world.poll("a", "b")
    assert (world.runs("web"), world.runs("shop")) == ({"b": "v1"}, {"a": "v1"})


@pytest.mark.parametrize("waves", [[["a"], ["*"]], [["b"], ["*"]]])
def test_waves_and_a_move_do_not_wait_for_each_other(world: World, waves: list[list[str]]) -> None:
    rollout = {"waves": waves}
    world.merge(fleet=fleet(a="web", rollout=rollout))
    world.poll()
    world.merge(fleet=fleet(b="web", rollout=rollout))
    world.poll("a", "b", "a", "b", "a")
    assert world.runs() == {"b": "v1"}


def test_a_new_host_that_waits_for_the_wave_of_the_old_one_is_not_silent(world: World) -> None:
    rollout = {"waves": [["a"], ["*"]], "bake": "1h", "silent": {"after": "15m", "counts_as": "green"}}
    world.merge(fleet=fleet(a="web", rollout=rollout))
    world.poll()
    world.merge(fleet=fleet(b="web", rollout=rollout))
    world.poll("a", "b")
    waves = world.members["a"].waves
    waves.monotonic = lambda began=waves.monotonic: began() + 901.0  # type: ignore[misc]
    world.poll("a")
    assert world.runs() == {"a": "v1"}
    for member in world.members.values():
        member.clock_behind = 3700.0
    world.poll("b", "a")
    assert world.runs() == {"b": "v1"}


def test_a_host_that_is_drained_has_nothing_to_serve_with(world: World) -> None:
    commit = world.merge(fleet=fleet(b="web", drained=("b",)))
    world.poll("b", "a")
    assert world.runs() == {"a": "v1", "b": "v1"}
    assert world.told(commit)["a"][1] == "keeps web until b has it: b is drained"
    world.merge(fleet=fleet(b="web"))
    world.poll("a")
    assert world.runs() == {"b": "v1"}


def test_a_schedule_is_let_go_of_at_once_and_what_serves_is_not(world: World) -> None:
    read: Mapping[str, Any] = yaml.safe_load(placed("web"))
    nightly = {**read["services"]["web"], "image": "nightly", "x-mvd": {"schedule": "*-*-* 03:00:00"}}
    world.merge(web=yaml.safe_dump({"services": {**read["services"], "nightly": nightly}}))
    world.poll()
    assert world.runs()["a"] == "nightlyv1"
    world.merge(fleet=fleet(b="web"))
    world.poll("a")
    assert world.runs() == {"a": "v1"}
    world.poll("b", "a")
    assert world.runs() == {"b": "nightlyv1"}


def test_a_move_that_goes_on_to_a_third_host_before_it_is_over_is_waited_for_there(world: World) -> None:
    world.merge(fleet=fleet(b="web"))
    world.poll("a")
    world.merge(fleet=fleet(c="web"))
    world.poll("a", "b")
    assert world.runs() == {"a": "v1"}
    world.poll("c", "a")
    assert world.runs() == {"c": "v1"}


def stateful(image: str = "v1") -> str:
    read = yaml.safe_load(placed("web", image))
    read["services"]["web"]["volumes"] = ["data:/data"]
    return yaml.safe_dump({**read, "volumes": {"data": None}})


def test_a_plan_tells_the_order_and_the_data_that_stays(world: World) -> None:
    world.merge(web=stateful())
    world.poll()
    world.merge(fleet=fleet(b="web"))
    giver, taker = (world.members[name].plan("web") for name in "ab")
    assert (giver.why, giver.is_refused, giver.has_changes) == (
        "waiting: kept until b has it: b is not green yet",
        False,
        True,
    )
    assert giver.change.remarks == (
        "moves to b: it is kept here until it is green there",
        "its data stays on this host: volume web_data",
    )
    assert taker.change.remarks == (
        "comes from a, where it is kept until it is green here",
        "its data stays on a: volume web_data",
    )
    world.poll("b")
    giver = world.members["a"].plan("web")
    assert (giver.why, giver.change.remarks) == (
        "",
        ("moves to b: it is kept here until it is green there", "its data stays on this host: volume web_data"),
    )


def test_a_pull_request_tells_the_same(world: World) -> None:
    world.merge(web=stateful())
    world.poll()
    source = world.members["a"].source
    tip = source.last()
    world.merge(fleet=fleet(b="web"))
    tree = source.tree(source.fetch())
    told = {
        "a": [
            "! moves to b: it is kept here until it is green there",
            "! its data stays on this host: volume web_data",
        ],
        "b": ["! comes from a, where it is kept until it is green here", "! its data stays on a: volume web_data"],
    }
    for name, lines in told.items():
        member = world.members[name]
        [plan] = Judge(member.host, member.history, source.tree, False)(tree, tip).plans
        assert [line for line in plan.lines if line.startswith("! ")] == lines
