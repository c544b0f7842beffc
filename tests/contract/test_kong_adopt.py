"""`mvd adopt`: what a Kong has becomes ours where the repository declares it, and nothing else changes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mvd.cli.adoption import SUSPENDED_BY, Adopter
from gitops_mvd.cli.main import mvd
from gitops_mvd.core.decide import Candidate
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Failure, Goal, Health, HostFacts, Operation, Plan, Resource
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.core.reconcile import settle
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.migrate import export
from gitops_mvd.kong.migrate.adopt import Adoptions, plan
from gitops_mvd.kong.schema import Schemas
from gitops_mvd.manifest import load
from gitops_mvd.state import suspension
from gitops_mvd.state.history import SqliteHistory
from tests.contract.kong_documents import UPSTREAMS, Document, a_kong, entity, everything, id_of, ref, seed
from tests.contract.test_kong_client import (  # noqa: F401
    HOST,
    Gateway,
    Wire,
    apply,
    behind,
    by_name,
    service,
    wire,
)
from tests.fakes import ROLES
from tests.unit.memory_tree import MemoryTree

LOGIN = {"username": "mobile-login", "password": "basic-of-mobile", "tags": ["deck", "team-a"]}


def dumped(gateway: Gateway) -> App:
    """The app of a repository that a dump was written to."""
    made = export.dump(Kong(gateway.admin), clear=True)
    (app,), broken = load(MemoryTree(made.files), HostFacts(HOST))
    assert not broken
    return app


def with_login(app: App, login: Any = LOGIN) -> App:
    consumers = [
        {**consumer, "basicauth_credentials": [login]} if consumer.get("username") == "mobile-app" else consumer
        for consumer in app.kong_entities["consumers"]
    ]
    return App(app.name, kong_entities={**app.kong_entities, "consumers": consumers})


def look(gateway: Gateway, *apps: App, host: str = HOST) -> Adoptions:
    kong = Kong(gateway.admin)
    declared = [it for app in apps for wanted in Routes(None, host).wanted(app) for it in wanted.payload]
    return plan(host, declared, kong.all(), Schemas(kong.schema))


def adopt(gateway: Gateway, *apps: App, admin: str = "") -> Adoptions:
    found = look(gateway, *apps)
    Kong(admin or gateway.admin).adopt(HOST, [it.entity for it in found.adopted])
    return found


def is_in_sync(gateway: Gateway, app: App) -> bool:
    routes = Routes(Kong(gateway.admin), HOST)
    wanted, found = list(routes.wanted(app)), list(routes.observe())
    return by_name(found) == by_name(wanted) and not make_plan(
        [Side(app, list(wanted), list(found), proven=True)], ROLES
    )


def without_tags(entities: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {k: v for k, v in fields.items() if k != "tags"} for name, fields in entities.items()}


def test_what_was_dumped_is_adopted_and_then_nothing_is_left_to_do(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    before = everything(gateway)
    app = with_login(dumped(gateway))
    found = adopt(gateway, app)
    assert not found.refused
    assert len(found.adopted) == len(before)
    assert is_in_sync(gateway, app)
    after = without_tags(everything(gateway))
    after[f"plugins {id_of('p-service')}"]["config"]["anonymous"] = id_of("ussd")  # by its name since
    assert after == without_tags(before)
    assert look(gateway, app) == Adoptions([], [], [])


def test_a_pass_of_the_daemon_writes_nothing_then(gateway: Gateway, wire: Wire) -> None:  # noqa: F811
    seed(gateway, a_kong())
    app = with_login(dumped(gateway))
    adopt(gateway, app)
    apply(Routes(Kong(wire.url), HOST), app)
    assert [call for call in wire.calls if not call.startswith("GET")] == []


def test_what_is_not_declared_stays_to_the_byte(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    before = everything(gateway)
    app = dumped(gateway)
    (mobile,) = [it for it in app.kong_entities["consumers"] if it.get("username") == "mobile-app"]
    part = App("gateway", kong_entities={"consumers": [{"username": "mobile-app", "acls": mobile["acls"]}]})
    found = adopt(gateway, part)
    assert [str(it.found) for it in found.adopted] == ["consumer mobile-app", f"acl {id_of('acl')}"]
    assert found.adopted[0].undeclared == ["custom_id"]
    after = everything(gateway)
    assert {name for name in after if after[name] != before[name]} == {
        f"consumers {id_of('mobile')}",
        f"acls {id_of('acl')}",
    }
    assert after[f"consumers {id_of('mobile')}"]["custom_id"] == "0x10"
    assert is_in_sync(gateway, part)
    routes = Routes(Kong(gateway.admin), HOST)
    if gateway.mode == "postgres":
        apply(
            routes,
            App("gateway", kong_entities={"consumers": [{"username": "mobile-app", "tags": ["gold"], "acls": []}]}),
        )
        assert gateway.all("consumers")[0]["id"] in {id_of("mobile"), id_of("ussd"), id_of("numbered")}
        assert [key["id"] for key in gateway.all("key-auths")] == sorted([id_of("key1"), id_of("key2")])


def test_what_was_adopted_is_changed_and_deleted_like_all_that_is_managed(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    app = with_login(dumped(gateway))
    adopt(gateway, app)
    routes = Routes(Kong(gateway.admin), HOST)
    services = [{**it, "retries": 4} if it.get("name") == "legacy" else it for it in app.kong_entities["services"]]
    changed = App("gateway", kong_entities={**app.kong_entities, "services": services})
    apply(routes, changed)
    assert is_in_sync(gateway, changed)
    assert {it["name"]: (it["id"], it["retries"]) for it in gateway.all("services")}["legacy"] == (id_of("legacy"), 4)
    apply(routes, App("gateway"))
    assert everything(gateway) == {}


def test_a_password_is_known_again_though_another_id_salts_it(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    app = with_login(dumped(gateway))
    (before,) = gateway.all("basic-auths")
    adopt(gateway, app)
    (after,) = gateway.all("basic-auths")
    assert (after["id"], after["password"]) == (before["id"], before["password"])
    assert is_in_sync(gateway, app)
    other = with_login(app, {**LOGIN, "password": "another"})
    assert not is_in_sync(gateway, other)
    apply(Routes(Kong(gateway.admin), HOST), other)
    assert is_in_sync(gateway, other)
    assert not is_in_sync(gateway, app)
    assert "basic-of-mobile" not in json.dumps(everything(gateway))


def test_a_password_changed_by_hand_is_seen(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    app = with_login(dumped(gateway))
    adopt(gateway, app)
    if gateway.mode == "off":
        document = gateway.config()
        document["basicauth_credentials"][0]["password"] = "0" * 40
        gateway.load({**document, "_transform": False})
    else:
        gateway.ask("PATCH", f"/basic-auths/{id_of('basic')}", json={"password": "by-hand", "consumer": ref("mobile")})
    assert not is_in_sync(gateway, app)
    apply(Routes(Kong(gateway.admin), HOST), app)
    assert is_in_sync(gateway, app)


def test_what_would_change_is_shown_with_secrets_as_digests(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    wanted = {
        "consumers": [
            {
                "username": "mobile-app",
                "keyauth_credentials": [{"key": "key-of-mobile-1"}],
                "jwt_secrets": [{"key": "mobile-issuer", "secret": "another-secret"}],
            }
        ],
        "services": [{"name": "legacy", "host": "127.0.0.1", "port": 1234}],
    }
    found = look(gateway, App("gateway", kong_entities=wanted))
    told = "\n".join(export.lines(found))
    assert "    port: 9 → 1234\n" in told
    assert "    kept for now, but not declared: path, read_timeout" in told
    assert "    tags: deck, team-a → nothing\n" in told
    assert "    secret: sha256:" in told
    for secret in ("another-secret", "jwt-of-mobile", "key-of-mobile-1", "mobile-issuer"):
        assert secret not in told + json.dumps(export.as_json(found)) + repr(found)


def test_no_request_fails_meanwhile(gateway: Gateway, behind: int) -> None:  # noqa: F811
    document = a_kong(behind)
    document["plugins"] = [it for it in document["plugins"] if it["name"] != "rate-limiting"]
    document["plugins"].append(entity("p-auth", name="key-auth", route=ref("legacy-route")))
    seed(gateway, document)
    app = with_login(dumped(gateway))
    gateway.await_route("/legacy", {200}, WITH_KEY)
    with asked(gateway) as statuses:
        adopt(gateway, app)
        apply(Routes(Kong(gateway.admin), HOST), app)
        time.sleep(0.1)
    assert len(statuses) > 5
    assert set(statuses) == {200}
    assert is_in_sync(gateway, app)


WITH_KEY = {"apikey": "key-of-mobile-1", "x-version": "2"}


@contextmanager
def asked(gateway: Gateway) -> Iterator[list[int]]:
    """Requests through the gateway, all the while: with a key, and the statuses of the answers."""
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not done.is_set():
                statuses.append(session.get(f"{gateway.proxy}/legacy", headers=WITH_KEY, timeout=5).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        while len(statuses) < 2:
            time.sleep(0.01)
        yield statuses
    finally:
        done.set()
        thread.join()


def test_a_failure_in_the_middle_leaves_all_serving_and_again_does_the_rest(
    gateway: Gateway,
    wire: Wire,  # noqa: F811
    behind: int,  # noqa: F811
) -> None:
    for calls in itertools.count(step=4):
        gateway.clear()
        seed(gateway, a_kong(behind))
        gateway.await_route("/legacy", {200}, {"x-version": "2"})
        app = with_login(dumped(gateway))
        left = iter(range(calls))
        wire.fails = lambda call, left=left: not call.startswith("GET") and next(left, None) is None
        try:
            adopt(gateway, app, admin=wire.url)
            break
        except Unavailable:
            assert gateway.statuses("/legacy", {"x-version": "2"}) == {200}
        adopt(gateway, app)
        assert is_in_sync(gateway, app)
    assert calls > 3


def test_a_refusal_comes_before_the_first_write(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    before = everything(gateway)
    app = App(
        "gateway",
        kong_entities={
            "consumers": [{"username": "ussd"}],
            "plugins": [{"name": "correlation-id", "config": {"generator": "no-such"}}],
        },
    )
    with pytest.raises(StepFailed, match=r"Kong rejects plugin correlation-id: config\.generator"):
        adopt(gateway, app)
    assert everything(gateway) == before


# ---- what cannot be adopted ------------------------------------------------------------------------------------------


def test_what_another_host_keeps_is_left_to_it(gateway: Gateway) -> None:
    app = App("gateway", kong_entities={"consumers": [{"username": "bob"}]})
    apply(Routes(Kong(gateway.admin), "web-2"), app)
    found = look(gateway, app)
    assert found.adopted == []
    assert [(str(it), why) for it, why in found.refused] == [
        ("consumer bob", "the gitops-mvd of the host web-2 manages it")
    ]


def test_a_key_of_a_consumer_that_is_not_there_yet_is_told(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    app = App(
        "gateway",
        kong_entities={"consumers": [{"username": "new", "keyauth_credentials": [{"key": "key-of-mobile-1"}]}]},
    )
    found = look(gateway, app)
    assert found.adopted == []
    assert [why for _, why in found.refused] == [
        "it has another consumer in Kong, and the declared one is not there yet"
    ]


def test_one_name_that_is_two_of_kong_s_is_told(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    found = look(gateway, App("gateway", kong_entities={"consumers": [{"username": "mobile-app", "custom_id": "1e3"}]}))
    assert "2 entities in Kong clash with it" in found.refused[0][1]


def test_a_key_that_goes_to_another_consumer_is_shown(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    app = App(
        "gateway",
        kong_entities={"consumers": [{"username": "ussd", "keyauth_credentials": [{"key": "key-of-mobile-1"}]}]},
    )
    found = adopt(gateway, app)
    assert "consumer.id" in found.adopted[1].changes
    assert is_in_sync(gateway, app)
    assert {key["id"]: key["consumer"]["id"] for key in gateway.all("key-auths")}[id_of("key1")] == id_of("ussd")


def test_a_route_that_takes_the_same_requests_is_told(gateway: Gateway) -> None:
    seed(gateway, UPSTREAMS)
    found = look(gateway, App("chat", (service("chat"),)))
    assert [(str(ours), other.fields["name"]) for ours, other in found.shadowed] == [
        ("route mvd.chat.chat.1", "chat-all")
    ]
    assert "route chat-all in Kong, which is not managed" in "\n".join(export.lines(found))
    assert found.adopted == []


def test_a_route_with_one_condition_more_takes_over_from_a_hand_made_one(gateway: Gateway, behind: int) -> None:  # noqa: F811
    seed(
        gateway,
        {
            "services": [entity("old", name="old", host="127.0.0.1", port=1)],  # which answers 502
            "routes": [entity("old-route", name="old", service=ref("old"), paths=["/chat"])],
        },
    )
    app = App("chat", (service("web", routes=[{"paths": ["/chat"], "methods": ["GET", "POST"]}]),))
    gateway.await_route("/chat", {502})
    apply(Routes(Kong(gateway.admin), HOST), app, behind)
    gateway.await_route("/chat", {200})
    if gateway.mode == "postgres":
        gateway.ask("DELETE", "/routes/old")
        assert gateway.statuses("/chat") == {200}


def test_a_declared_upstream_with_targets_of_others_is_not_adopted(gateway: Gateway) -> None:
    seed(
        gateway,
        {
            "upstreams": [entity("up", name="mvd.shop.web")],
            "targets": [entity("t", target="10.0.0.1:80", upstream=ref("up"))],
            "services": [entity("s", name="mvd.shop.web", host="mvd.shop.web")],
        },
    )
    found = look(gateway, App("shop", (service(),)))
    assert [(str(it), why) for it, why in found.refused] == [
        (
            "upstream mvd.shop.web",
            "it has targets that are no managed instances and would get requests: 10.0.0.1:80; delete them",
        )
    ]
    assert [str(it.found) for it in found.adopted] == ["service mvd.shop.web"]


def test_what_is_managed_by_its_tags_under_another_id_is_adopted(gateway: Gateway) -> None:
    """As after a restore of Kong from a dump of decK's, which has tags and no ids."""
    app = App(
        "gateway", kong_entities={"consumers": [{"username": "bob", "keyauth_credentials": [{"key": "the-key"}]}]}
    )
    apply(Routes(Kong(gateway.admin), HOST), app)
    restored: Document = {}
    for name, fields in everything(gateway).items():
        type = name.split(" ")[0]
        kept = {key: value for key, value in fields.items() if key not in ("created_at", "ttl")}
        renamed = {**kept, "id": id_of(fields["id"])}
        if "consumer" in kept:
            renamed["consumer"] = ref(kept["consumer"]["id"])
        restored.setdefault(type, []).append(renamed)
    gateway.clear()
    seed(gateway, restored)
    if gateway.mode == "postgres":  # a document is replaced as a whole
        with pytest.raises(StepFailed):
            apply(Routes(Kong(gateway.admin), HOST), app)
    assert len(adopt(gateway, app).adopted) == 2
    assert is_in_sync(gateway, app)


def test_a_clash_says_that_it_can_be_adopted(gateway: Gateway) -> None:
    seed(gateway, a_kong())
    with pytest.raises(StepFailed, match=r"consumer ussd is already in Kong and not managed by .*`mvd adopt`"):
        apply(Routes(Kong(gateway.admin), HOST), App("gateway", kong_entities={"consumers": [{"username": "ussd"}]}))


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(gateway: Gateway, tmp_path: Path) -> Path:
    """The settings of a server whose repository declares what its Kong has."""
    seed(gateway, a_kong())
    repository = tmp_path / "repository"
    export.write(export.dump(Kong(gateway.admin), clear=True), repository, None, force=False)
    commit(repository)
    config = tmp_path / "etc/config.yaml"
    config.parent.mkdir()
    said = {
        "repository": str(repository),
        "host": HOST,
        "kong": {"admin": gateway.admin, "proxy": gateway.proxy},
        "state": str(tmp_path / "state"),
        "files": str(tmp_path / "files"),
    }
    config.write_text(yaml.safe_dump(said))
    return config


def commit(repository: Path) -> None:
    options = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    if not (repository / ".git").exists():
        subprocess.run(["git", "init", "-q", "-b", "main", str(repository)], check=True)
    subprocess.run(["git", "-C", str(repository), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(repository), *options, "commit", "-qm", "a change"], check=True)


def mvd_adopt(config: Path, *words: str, answer: str = "") -> Result:
    command = ["--config", str(config), "adopt", *words]
    return CliRunner().invoke(mvd, command, input=answer, catch_exceptions=False, standalone_mode=False)


def test_the_command_shows_asks_and_adopts(gateway: Gateway, server: Path) -> None:
    before = everything(gateway)
    result = mvd_adopt(server, answer="n\n")
    assert result.return_value == 1
    assert "= consumer mobile-app" in result.stdout
    assert "Adopt 33 entities of web-1's Kong?" in result.stderr
    assert everything(gateway) == before
    result = mvd_adopt(server, answer="y\n")
    assert result.return_value == 0
    assert "33 entities adopted" in result.stderr
    (app,), _ = load(FolderTree(server.parent.parent / "repository"), HostFacts(HOST))
    assert is_in_sync(gateway, app)
    assert "nothing to adopt" in mvd_adopt(server, "--yes").stderr


def test_nothing_is_adopted_in_a_kong_that_servers_share(gateway: Gateway, server: Path) -> None:
    said = yaml.safe_load(server.read_text())
    server.write_text(yaml.safe_dump({**said, "kong": {**said["kong"], "shared": "edge", "address": "10.0.0.5"}}))
    before = everything(gateway)
    with pytest.raises(StepFailed, match="nothing can be adopted in a Kong that several servers share"):
        mvd_adopt(server, "--yes")
    assert everything(gateway) == before


def test_scripts_see_json_and_do_it_only_when_told(gateway: Gateway, server: Path) -> None:
    before = everything(gateway)
    result = mvd_adopt(server, "--json")
    assert result.return_value == 2
    told = json.loads(result.stdout)
    assert len(told["adopted"]) == 33
    assert everything(gateway) == before
    assert mvd_adopt(server, "--json", "--yes").return_value == 0
    assert json.loads(mvd_adopt(server, "--json").stdout)["adopted"] == []


def test_the_way_back_from_a_clash_does_not_delete_what_was_adopted(gateway: Gateway, server: Path) -> None:
    """The first look at a clashing version has marked it failed, and calls nothing at all the last good one."""
    (app,), _ = load(FolderTree(server.parent.parent / "repository"), HostFacts(HOST))
    history = SqliteHistory(server.parent.parent / "state/history.db")
    history.approve(App("gateway"), "0" * 40)
    history.mark_failed(app, Failure("it clashes"))
    assert mvd_adopt(server, "--yes").return_value == 0
    assert history.failure_of(app) is None
    assert history.last_good("gateway") is None
    history.close()


class OnlyRoutes:
    """As much of a host as the gateway's own entities take."""

    name = HOST
    roles = ROLES

    def __init__(self, gateway: Gateway) -> None:
        self.routes = Routes(Kong(gateway.admin), HOST)

    def found(self, app: str) -> tuple[Resource, ...]:
        return tuple(resource for resource in self.routes.observe() if resource.app == app)

    def plan(self, goals: Any) -> Plan:
        return make_plan([self._side(goal) for goal in goals], ROLES)

    def _side(self, goal: Goal) -> Side:
        app = goal.app if goal.before is None else App(goal.app.name)
        wanted = list(self.routes.wanted(app)) if goal.before is None else goal.before
        return Side(app, wanted, self.found(app.name), goal.proven)

    def carry_out(self, steps: Any) -> list[str]:
        for step in steps:
            self.routes.apply([step])
        return []

    def overridden(self, app: App) -> str:
        return ""

    def unrepaired(self, plan: Plan) -> str:
        return ""

    def health(self, app: App) -> Health:
        return Health.HEALTHY


def test_the_passes_before_and_after_lose_nothing_even_if_it_was_half_done(gateway: Gateway, server: Path) -> None:
    before = everything(gateway)
    (app,), _ = load(FolderTree(server.parent.parent / "repository"), HostFacts(HOST))
    history: Any = SqliteHistory(server.parent.parent / "state/history.db")

    def settled() -> Operation:
        return settle([Candidate(app)], cast(Any, OnlyRoutes(gateway)), history, "1" * 40)[0].operation

    assert settled() is Operation.RUNNING, "a clash is waited for"
    assert everything(gateway) == before, "a clash changes nothing"
    history.clear_failure(app.name)
    history.forget(app.name)
    some = look(gateway, app).adopted[::2]
    Kong(gateway.admin).adopt(HOST, [it.entity for it in some])
    assert settled() is Operation.RUNNING
    assert everything(gateway).keys() == before.keys(), "what was adopted is not deleted on the way back"
    assert mvd_adopt(server, "--yes").return_value == 0
    assert settled() is Operation.SUCCEEDED
    assert settled() is Operation.SUCCEEDED
    assert everything(gateway).keys() == before.keys()
    history.close()


DAEMON = """
import signal, sys, time
from pathlib import Path
from gitops_mvd.state import suspension
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.lock import alone

state, settings = map(Path, sys.argv[1:])
history = SqliteHistory(state / "history.db")
history.last_error(0)  # two that make the file at once would be in each other's way
def look(*_):
    history.save_last_error(f"this server is {suspension.suspended(settings).host.text} (`mvd resume`)")
with alone(state):
    signal.signal(signal.SIGUSR1, look)
    print("runs", flush=True)
    while True:
        time.sleep(0.05)
"""


def test_a_daemon_that_runs_stands_still_meanwhile(gateway: Gateway, server: Path) -> None:
    state = server.parent.parent / "state"
    state.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(state), str(server)], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout
        assert daemon.stdout.readline() == "runs\n"
        history = SqliteHistory(state / "history.db")
        kong = Kong(gateway.admin)
        adopter = Adopter(
            host=HOST, kong=kong, routes=Routes(kong, HOST), history=history, settings=server, state=state
        )
        with adopter.alone():
            assert (found := suspension.suspended(server).host)
            assert found.by == SUSPENDED_BY
        assert suspension.suspended(server).host is None
        suspension.suspend(server, by_hand := suspension.Suspension("anna", "by hand"))
        assert mvd_adopt(server, "--yes").return_value == 0
        assert suspension.suspended(server).host == by_hand
        history.close()
        daemon.terminate()


# ---- any Kong, any part of it ----------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_part_of_it_is_adopted_and_the_rest_stays(gateway: Gateway, data: st.DataObject) -> None:
    gateway.clear()
    seed(gateway, a_kong())
    before = everything(gateway)
    whole = dumped(gateway)
    part = {
        type: chosen
        for type, items in whole.kong_entities.items()
        if (chosen := [item for item in items if data.draw(st.booleans())])
    }
    plugins = [it for it in part.get("plugins", []) if not it.keys() & {"consumer", "route", "service"}]
    app = App("gateway", kong_entities={**part, **({"plugins": plugins} if plugins else {})})
    if "plugins" in app.kong_entities and not plugins:
        app = App("gateway", kong_entities={type: items for type, items in part.items() if type != "plugins"})
    found = adopt(gateway, app)
    assert not found.refused
    after = everything(gateway)
    ours = {f"{it.found.type} {it.found.id}" for it in found.adopted}
    assert {name: after[name] for name in after.keys() - ours} == {name: before[name] for name in before.keys() - ours}
    assert all("managed-by:gitops-mvd" in after[name]["tags"] for name in ours)
    assert before.keys() == after.keys()
    assert not look(gateway, app).adopted
