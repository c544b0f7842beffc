"""What passes from one service or app to another: in which order, and how it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gitops_mvd.core.claims import Claim
from gitops_mvd.core.decide import Candidate
from gitops_mvd.core.errors import Lacking, NotNow, StepFailed
from gitops_mvd.core.handover import remarks
from gitops_mvd.core.model import (
    App,
    Change,
    Desired,
    Gate,
    Health,
    Operation,
    Outcome,
    Problem,
    Resource,
    Revision,
    Role,
    Service,
    Step,
    Sync,
    Update,
)
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.core.specs import Joined, Made, Pools
from tests.fakes import FakeHistory, FakeHost, Killed, service


class World:
    def __init__(self) -> None:
        self.history = FakeHistory()
        self.host = FakeHost(self.history)

    def deploy(self, *apps: App) -> dict[str, Outcome]:
        desired = Desired(Revision("a" * 40, "main"), apps)
        report = reconcile(desired, self.host, self.history, allow_empty=True)
        return {outcome.app: outcome for outcome in report.outcomes}

    def did(self) -> list[str]:
        """What was done to units and routes, since the last time."""
        told = []
        for step in self.host.log:
            resource = step.resource
            if resource.kind in ("unit", "route"):
                told.append(f"{'wait' if isinstance(step, Gate) else step.verb} {resource.app}.{resource.service}")
        self.host.log.clear()
        return told

    def remarks(self, *apps: App) -> dict[str, list[str]]:
        gone = sorted(self.host.apps() - {app.name for app in apps})
        every = [Candidate(app) for app in (*apps, *map(App, gone))]
        return {app: told for app, told in remarks(every, self.host, self.history).items() if told}


@pytest.fixture
def world() -> World:
    return World()


def web(name: str = "web", image: str = "acme/web:1", port: str = "", volume: str = "", **more: Any) -> Any:
    ports = [{"target": 80, "published": port, "host_ip": "", "protocol": "tcp"}]
    mounts = [{"type": "volume", "source": volume, "target": "/data", "read_only": False}]
    run = {**({"ports": ports} if port else {}), **({"volumes": mounts} if volume else {})}
    order = "stop-first" if run else "start-first"
    return service(name, image, **{"route": False, "update": Update(order), "run": run, **more})


def routed(name: str, path: str, image: str = "acme/web:1", **more: Any) -> Any:
    one = web(name, image, route=True, **more)
    one.kong["routes"][0]["paths"] = [path]
    return one


def test_a_service_that_is_renamed_takes_the_port_after_it_was_let_go_of(world: World) -> None:
    world.deploy(App("ren", (web("web", port="18081"),)))
    world.did()
    outcome = world.deploy(App("ren", (web("frontend", port="18081"),)))["ren"]
    assert outcome.is_green
    assert world.did() == ["delete ren.web", "create ren.frontend", "wait ren.frontend"]


def test_an_app_that_is_renamed_takes_port_and_route_in_one_go(world: World) -> None:
    world.deploy(App("shop", (routed("web", "/shop", port="18111"),)))
    world.did()
    outcomes = world.deploy(App("store", (routed("web", "/shop", port="18111"),)))
    assert outcomes["store"].is_green
    assert (outcomes["shop"].removed, outcomes["shop"].operation) == (True, Operation.SUCCEEDED)
    assert world.did() == [
        "delete shop.web",
        "create store.web",
        "wait store.web",
        "create store.web",  # the route, in one switch with
        "delete shop.web",  # the other one
        "wait store.web",
    ]


def test_without_anything_exclusive_the_old_app_serves_until_the_new_one_does(world: World) -> None:
    world.deploy(App("shop", (routed("web", "/shop"),)))
    world.did()
    world.deploy(App("store", (routed("web", "/shop"),)))
    did = world.did()
    assert did[:5] == ["create store.web", "wait store.web", "create store.web", "delete shop.web", "wait store.web"]
    assert did[-1] == "delete shop.web"


def test_what_cannot_take_over_gives_back_what_it_has_taken(world: World) -> None:
    shop = App("shop", (routed("web", "/shop", port="18111"),))
    sick = App("store", (routed("web", "/shop", image="acme/sick", port="18111"),))
    world.deploy(shop)
    before = dict(world.host.resources)
    outcomes = world.deploy(sick)
    assert world.host.resources.keys() == before.keys()
    assert outcomes["store"].operation is Operation.FAILED
    assert outcomes["shop"].operation is Operation.ROLLED_BACK
    assert outcomes["shop"].health is Health.HEALTHY
    assert outcomes["shop"].why == "changes together with store: web: http 503"
    world.did()
    assert world.deploy(sick).keys() == {"store", "shop"}
    assert world.did() == [], "it is not tried again, and nothing is taken from shop"
    fixed = world.deploy(App("store", (routed("web", "/shop", port="18111"),)))
    assert fixed["store"].is_green
    assert fixed["shop"].removed


def test_services_that_swap_their_ports_both_let_go_before_either_takes(world: World) -> None:
    world.deploy(App("a", (web(port="1"),)), App("b", (web(port="2"),)))
    world.did()
    outcomes = world.deploy(App("a", (web(port="2"),)), App("b", (web(port="1"),)))
    assert all(outcome.is_green for outcome in outcomes.values())
    did = [word for word in world.did() if not word.startswith("wait")]
    assert sorted(did[:2]) == ["delete a.web", "delete b.web"]
    assert sorted(did[2:]) == ["create a.web", "create b.web"]


def test_two_services_that_both_want_a_volume_share_it(world: World) -> None:
    def app(image: str) -> App:
        return App("chat", (web("web", image, volume="data"), web("worker", image, volume="data")))

    world.deploy(app("acme/web:1"))
    world.did()
    world.deploy(app("acme/web:2"))
    assert world.did()[:2] == ["delete chat.web", "create chat.web"], "each in its turn, beside the other"


def test_a_volume_passes_only_once_its_writer_has_stopped(world: World) -> None:
    world.deploy(App("chat", (web("web", volume="data"), web("worker"))))
    world.did()
    world.deploy(App("chat", (web("web"), web("worker", volume="data"))))
    did = [word for word in world.did() if "web" in word or "worker" in word]
    assert did.index("delete chat.web") < did.index("create chat.worker")


def test_a_daemon_that_died_between_release_and_take_goes_on(world: World) -> None:
    world.deploy(App("shop", (web(port="18111"),)))
    store = App("store", (web(port="18111"),))

    def dies(step: Step) -> None:
        if isinstance(step, Change) and step.verb == "create" and step.resource.kind == "unit":
            raise Killed

    world.host.fault = dies
    with pytest.raises(Killed):
        world.deploy(store)
    assert not [key for key in world.host.resources if key[0] == "unit"]
    world.host.fault = lambda step: None
    assert world.deploy(store)["store"].is_green
    assert {key[1].split("-")[1] for key in world.host.resources if key[0] == "unit"} == {"store"}


def test_a_giver_that_never_stops_keeps_what_it_has_and_is_asked_again(world: World) -> None:
    world.deploy(App("shop", (web(port="18111"),)))

    def refuses(step: Step) -> None:
        if isinstance(step, Change) and step.verb == "delete" and step.resource.kind == "unit":
            error = StepFailed("mvd-shop-web.service: does not stop")
            error.app = "shop"
            raise error

    world.host.fault = refuses
    outcomes = world.deploy(App("store", (web(port="18111"),)))
    assert (outcomes["shop"].sync, outcomes["shop"].operation) == (Sync.OUT_OF_SYNC, Operation.RUNNING)
    assert outcomes["store"].operation is Operation.RUNNING
    assert {key[1].split("-")[1] for key in world.host.resources if key[0] == "unit"} == {"shop"}
    world.host.fault = lambda step: None
    assert world.deploy(App("store", (web(port="18111"),)))["store"].is_green


def test_what_the_surroundings_refuse_waits_and_mends_itself(world: World) -> None:
    world.deploy(App("chat", (web(image="acme/web:1", port="1"),)))

    def refused(step: Step) -> None:
        image = getattr(step.resource.payload, "image", "") if isinstance(step, Change) else ""
        if image == "acme/web:2":
            raise NotNow("the port 1 of this host is used by nginx")

    world.host.fault = refused
    new = App("chat", (web(image="acme/web:2", port="1"),))
    outcome = world.deploy(new)["chat"]
    assert (outcome.operation, outcome.sync) == (Operation.RUNNING, Sync.OUT_OF_SYNC)
    assert outcome.why == "the port 1 of this host is used by nginx"
    assert world.host.images("chat") == ["acme/web:1"]
    world.host.fault = lambda step: None
    world.history.is_late = False
    world.host.log.clear()
    assert world.deploy(new)["chat"].why == outcome.why
    assert not world.host.log, "it is not carried out again at every pass"
    world.history.is_late = True
    assert world.deploy(new)["chat"].is_green


def test_what_a_host_lacks_is_red_and_mends_itself_once_it_is_there(world: World) -> None:
    def refused(step: Step) -> None:
        if isinstance(step, Change) and step.resource.kind == "unit":
            raise Lacking("web: the device /dev/ttyUSB0 is not there")

    world.host.fault = refused
    app = App("chat", (web(port="1"),))
    outcome = world.deploy(app)["chat"]
    assert (outcome.operation, outcome.sync) == (Operation.FAILED, Sync.OUT_OF_SYNC)
    world.host.fault = lambda step: None
    world.history.is_late = False
    assert world.deploy(app)["chat"].why == outcome.why
    world.history.is_late = True
    assert world.deploy(app)["chat"].is_green


def test_what_last_worked_and_cannot_be_brought_back_is_not_tried_at_every_pass(world: World) -> None:
    app = App("chat", (web(port="1"),))
    world.deploy(app)
    world.host.resources.clear()

    def refused(step: Step) -> None:
        if isinstance(step, Change) and step.resource.kind == "unit":
            raise StepFailed("no")

    world.host.fault = refused
    first = world.deploy(app)["chat"]
    assert (first.operation, first.why) == (Operation.FAILED, "no")
    world.history.is_late = False
    world.host.log.clear()
    assert world.deploy(app)["chat"].why == "no"
    assert not world.host.log
    world.host.fault = lambda step: None
    world.history.is_late = True
    assert world.deploy(app)["chat"].is_green


@pytest.mark.parametrize("wanted", [(), (App("chat", (web(image="acme/web:2"),)),)], ids=["removal", "new version"])
def test_a_clean_up_that_fails_waits_longer_each_time_and_is_told(world: World, wanted: tuple[App, ...]) -> None:
    world.deploy(App("chat", (web(image="acme/web:1"),)))

    def refuses(step: Step) -> None:
        if isinstance(step, Change) and step.verb == "delete" and step.resource.name == "acme/web:1":
            raise StepFailed("the image is in use")

    world.host.fault = refuses
    for _ in range(3):
        outcome = world.deploy(*wanted)["chat"]
        assert (outcome.operation, outcome.why) == (Operation.FAILED, "the image is in use")
    assert max(world.history.tries.values()) == 3, "each try is one more in a row"
    world.history.is_late = False
    world.host.fault = lambda step: pytest.fail(f"it is carried out although it is not time: {step}")
    assert world.deploy(*wanted)["chat"].why == "the image is in use"
    world.host.fault = lambda step: None
    world.history.is_late = True
    assert world.deploy(*wanted)["chat"].is_green
    assert not world.history.tries


def test_a_version_that_could_not_be_brought_back_is_tried_at_once_when_a_commit_returns_to_it(world: World) -> None:
    old, new = (App("chat", (web(image=image),)) for image in ("acme/web:1", "acme/web:2"))
    world.deploy(old)
    world.host.resources.clear()

    def refused(step: Step) -> None:
        raise StepFailed("no")

    world.host.fault = refused
    assert world.deploy(old)["chat"].why == "no"
    world.history.is_late = False
    world.host.fault = lambda step: None
    assert world.deploy(new)["chat"].is_green
    assert world.deploy(old)["chat"].is_green
    assert world.host.images("chat") == ["acme/web:1"]


def test_a_good_version_that_is_repaired_and_sick_is_green_again_once_it_is_healthy(world: World) -> None:
    app = App("chat", (web(image="acme/web:sick", update=Update("start-first", failure_action="continue")),))
    world.history.approve(app, "a" * 40)
    assert world.deploy(app)["chat"].operation is Operation.FAILED
    world.deploy(app)
    told = world.deploy(app)["chat"]
    assert (told.operation, told.health, told.why) == (Operation.SUCCEEDED, Health.DEGRADED, "web: http 503")
    assert not told.is_green


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_a_renamed_app_is_told_with_the_data_that_it_leaves_behind(world: World) -> None:
    world.deploy(App("shop", (web(port="1", volume="shop_data"),)))
    assert world.remarks(App("store", (web(port="1", volume="store_data"),))) == {
        "store": [
            "takes port 1 from shop",
            "takes the place of shop",
            "volume shop_data stays, and web begins with an empty store_data: write `name: shop_data` to keep it",
        ],
        "shop": ["store takes its place", "its data stays on this host: volume shop_data"],
    }


def test_data_that_a_renamed_app_keeps_by_its_name_is_not_told_to_stay(world: World) -> None:
    world.deploy(App("shop", (web(port="1", volume="shop_data"),)))
    assert world.remarks(App("store", (web(port="1", volume="shop_data"),))) == {
        "store": ["takes port 1, volume shop_data from shop", "takes the place of shop"],
        "shop": ["store takes its place"],
    }


def test_an_app_whose_manifest_is_broken_goes_on_to_share_a_volume_and_keeps_its_port(world: World) -> None:
    world.deploy(App("shop", (web(port="1", volume="photos"),)))
    problems = {"shop": (Problem("apps/shop/compose.yaml", 1, "", "is broken"),)}

    def deploy(app: App) -> dict[str, Outcome]:
        desired = Desired(Revision("b" * 40, "main"), (app,), problems)
        return {it.app: it for it in reconcile(desired, world.host, world.history).outcomes}

    assert deploy(App("viewer", (web(volume="photos"),)))["viewer"].is_green
    taken = deploy(App("viewer", (web(volume="photos", port="1"),)))["viewer"]
    assert taken.why.startswith("changes together with shop: apps/shop/compose.yaml:1: is broken")
    assert {key[1].split("-")[1] for key in world.host.resources if key[0] == "unit"} == {"shop", "viewer"}


def test_a_renamed_service_is_told(world: World) -> None:
    world.deploy(App("ren", (web("web", port="1"),)))
    assert world.remarks(App("ren", (web("frontend", port="1"),))) == {"ren": ["frontend takes the place of web"]}


def test_apps_that_have_nothing_to_do_with_each_other_are_told_nothing(world: World) -> None:
    world.deploy(App("shop", (web(port="1"),)), App("blog", (web(image="acme/blog", port="2"),)))
    assert world.remarks(App("shop", (web(port="3"),)), App("blog", (web(image="acme/blog", port="2"),))) == {}


# ---- networks --------------------------------------------------------------------------------------------------------

NETWORK_ROLES = {"network": Role.SUPPORT, "container": Role.CONTAINER, "unit": Role.INSTANCE}


def on(network: str, subnet: str, name: str = "db") -> tuple[Service, list[Resource], list[Resource]]:
    """A service on a network: what is wanted of it, and how that is found once it is there."""
    run: Any = {"networks": {network: {}}}
    one = Service(name, "v1", run=run, update=Update("stop-first"))
    [instance] = one.instances("shop")
    spec = {"digest": one.digest, "port": 0, "state": "running", "grace": 10.0}
    options: Any = {"ipam": {"config": [{"subnet": subnet}]}}
    claims = frozenset({Claim("subnet", subnet)})
    of_network = Resource("network", network, "shop", spec={"digest": network})
    of_container = Resource("container", instance, "shop", name, {"digest": one.digest, "state": "made", "port": 0})
    unit = Resource("unit", instance, "shop", name, spec)
    wanted = [
        replace(of_network, payload=Made(options)),
        replace(of_container, payload=one),
        replace(unit, payload=one),
    ]
    found = [
        replace(of_network, payload=Pools(claims)),
        replace(of_container, payload=Joined(frozenset({network}))),
        unit,
    ]
    return one, wanted, found


def planned(before: tuple[Any, Any, Any], after: tuple[Any, Any, Any]) -> list[str]:
    plan = make_plan([Side(App("shop", (after[0],)), after[1], before[2])], NETWORK_ROLES)
    return [f"{it.verb} {it.resource.kind}" for it in plan if isinstance(it, Change)]


def test_a_network_that_needs_the_subnet_of_an_old_one_is_made_once_that_is_empty_and_gone() -> None:
    assert planned(on("mvd-shop-old", "10.1.0.0/24"), on("mvd-shop-new", "10.1.0.0/16")) == [
        "delete unit",
        "delete network",
        "create network",
        "create container",
        "create unit",
        "delete container",
    ]


def test_a_network_with_another_subnet_is_made_beside_the_old_one() -> None:
    assert planned(on("mvd-shop-old", "10.1.0.0/24"), on("mvd-shop-new", "10.2.0.0/24")) == [
        "create network",
        "create container",
        "delete unit",
        "create unit",
        "delete container",
        "delete network",
    ]


def circle(b_image: str = "acme/web:1", turned: int = 0, **more: Any) -> list[App]:
    """Three apps: from one turn to the next, `a` and `b` swap their ports, and volumes go round all of them."""
    ports, volumes = ("1", "2", "3"), ("one", "two", "three")
    at = ((1, 0, 2), (0, 1, 2))[turned == 0]
    return [
        App(
            name,
            (web("web", b_image if name == "b" else "acme/web:1", ports[at[n]], volumes[(n + turned) % 3], **more),),
        )
        for n, name in enumerate("abc")
    ]


def test_a_circle_of_ports_and_volumes_is_let_go_of_before_any_of_it_is_taken(world: World) -> None:
    world.deploy(*circle())
    world.did()
    outcomes = world.deploy(*circle(turned=1))
    assert all(outcome.is_green for outcome in outcomes.values())
    did = world.did()
    for taker, givers in {"a": "b", "b": "ac", "c": "a"}.items():
        assert all(did.index(f"delete {it}.web") < did.index(f"create {taker}.web") for it in (*givers, taker))


def test_a_circle_in_which_one_never_gets_healthy_goes_back_as_a_whole(world: World) -> None:
    world.deploy(*circle())
    before = {key for key in world.host.resources if key[0] == "unit"}
    outcomes = world.deploy(*circle("sick", turned=1))
    assert {name: it.operation for name, it in outcomes.items()} == dict.fromkeys("abc", Operation.ROLLED_BACK)
    assert {key for key in world.host.resources if key[0] == "unit"} == before
    world.did()
    world.deploy(*circle("sick", turned=1))
    assert world.did() == [], "and is not tried again"


def test_an_app_that_is_renamed_and_changed_at_once_takes_what_it_had(world: World) -> None:
    world.deploy(App("shop", (routed("web", "/shop", port="1", volume="shop_data"),)))
    store = App("store", (routed("web", "/shop", "acme/web:2", port="1", volume="shop_data", environment={"A": "1"}),))
    told = world.remarks(store)
    assert "takes the place of shop" in told["store"]
    assert not any("empty" in line for line in told["store"])
    outcomes = world.deploy(store)
    assert (outcomes["store"].is_green, outcomes["shop"].removed) == (True, True)
    assert (world.host.images("shop"), world.host.images("store")) == ([], ["acme/web:2"])


def test_a_renamed_app_whose_change_is_sick_leaves_the_old_one_as_it_was(world: World) -> None:
    world.deploy(App("shop", (routed("web", "/shop", port="1"),)))
    outcomes = world.deploy(App("store", (routed("web", "/shop", "sick", port="1"),)))
    assert outcomes["store"].operation is Operation.FAILED
    assert world.host.serving("shop", "web")
    assert (world.host.images("shop"), world.host.images("store")) == (["acme/web:1"], [])
