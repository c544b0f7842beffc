"""The life of a server under the daemon, on a real one: systemd, Docker, a registry, a gateway, a forge."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from gitops_mvd.core.model import digest
from tests.integration.stories import DAEMON, Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, for all of these tests; every one has apps of its own."""
    repository = lab.forge.create("acme/life")
    repository.commit({"README.md": "The life of a server\n"}, "Begin")
    server = lab.server("life")
    yield Story.set_up(lab, server, repository)
    server.destroy()


@pytest.fixture(scope="module")
def steady(lab: Lab, story: Story) -> str:
    """An app that nobody ever touches: whatever happens around it, its container stays.  Gives its name."""
    image = lab.registry.push("steady", "1", service.web("steady", "1"))
    story.deploy("steady", {"services": {"web": routed(image, "/steady")}})
    return "steady"


@pytest.fixture
def undisturbed(story: Story, steady: str) -> Iterator[None]:
    """Sees that the test does not touch the steady app."""
    before = story.containers(steady)
    yield
    assert story.containers(steady) == before
    story.answers("/steady", "steady 1")


# ---- nothing to do ---------------------------------------------------------------------------------------------------


def test_a_second_pass_does_nothing(story: Story, steady: str) -> None:
    before = story.containers()
    plan = story.mvd("plan")
    assert (plan.code, plan.out) == (0, ""), plan.err
    machine = json.loads(story.mvd("plan", "--json").out)
    assert machine["apps"]["steady"] == []
    log = story.log()
    assert story.mvd("sync").code == 0
    assert "step app=" not in story.log().removeprefix(log)
    assert story.containers() == before


def test_a_plan_shows_what_a_merge_would_do_and_does_none_of_it(lab: Lab, story: Story, undisturbed: None) -> None:
    image = lab.registry.push("planned", "1", service.web("planned", "1"))
    with story.without_daemon():
        before = story.containers(), story.units(""), story.kong("/routes"), story.images("*")
        commit = story.merge(manifest("planned", {"services": {"web": routed(image, "/planned")}}), "Deploy planned")
        plan = story.mvd("plan", "--verbose")
        machine = story.mvd("plan", "--json")
        assert (story.containers(), story.units(""), story.kong("/routes"), story.images("*")) == before
    told = ["planned: nothing of it runs yet", f"  service web added ({image}, route /planned)"]
    assert plan.out.splitlines()[:2] == told
    shown = [line.split()[:3] for line in plan.out.splitlines()[2:]]
    [name] = {words[2] for words in shown if words[1] == "unit"}
    assert plan.code == 2
    assert machine.code == 2
    assert re.fullmatch(r"mvd-planned-web-[0-9a-f]{8}", name)
    assert shown == [
        ["+", "config", name],
        ["+", "image", f"{image.rpartition(':')[0]}@{lab.registry.digest('planned', '1')}"],
        ["+", "network", f"mvd-planned-default-{digest({})[:8]}"],
        ["+", "container", name],
        ["+", "unit", name],
        ["?", "wait", name],
        ["+", "route", "planned.web"],
        ["?", "wait", "planned.web"],
    ]
    steps = json.loads(machine.out)["apps"]["planned"]
    assert [[step["do"], step["kind"]] for step in steps][4:6] == [["create", "unit"], ["wait", "unit"]]
    assert json.loads(machine.out)["revision"] == commit
    story.ends(commit, "success")
    assert [path.rpartition("/")[2] for path in story.units("planned")] == [f"{name}.service"]


# ---- drift -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drifting(lab: Lab, story: Story) -> str:
    """An app with one of everything, to be tampered with.  Gives its name."""
    image = lab.registry.push("drifting", "1", service.web("drifting", "1"))
    web = routed(image, "/drifting", environment={"COLOUR": "blue"}, networks=["inner"])
    story.deploy("drifting", {"services": {"web": web}, "networks": {"inner": {}}})
    return "drifting"


WHOLE = """
sed '1d; s/ [0-9a-f]\\{{64\\}}$//' /etc/systemd/system/{unit}  # without its seal and the id of the container
systemctl show --property=ActiveState,SubState,UnitFileState,NeedDaemonReload {unit}
cat /etc/gitops-mvd/files/{instance}/env
find /etc/gitops-mvd/files/{instance} -printf '%P %m %U\\n'
docker ps --filter name={instance} --format '{{{{.Names}}}} {{{{.Image}}}} {{{{.Networks}}}}'
docker network ls --filter label=io.gitops-mvd.app={app} --format '{{{{.Name}}}}'
docker images --format '{{{{.Tag}}}}' 'gitops-mvd.local/*'
curl -fsS http://127.0.0.1:8001/routes/{app}.web
"""


WITH_ITS_CONTAINER = {
    "much changed by hand": """
        echo '# by hand' >> /etc/systemd/system/{unit}
        systemctl disable {unit}
        sed -i s/blue/red/ /etc/gitops-mvd/files/{instance}/env
        chmod 644 /etc/gitops-mvd/files/{instance}/env
        docker rmi {image}""",
    "a unit file deleted": "rm /etc/systemd/system/{unit}",
    "the gateway's configuration lost": """
        curl -fsS -H 'Content-Type: application/json' -d '{{"_format_version": "3.0"}}' http://127.0.0.1:8001/config""",
    "a unit stopped": "systemctl stop {unit}",
    # in one, for the daemon: it would start the unit again before its network is gone
    "a network removed": "systemctl kill --signal=STOP gitops-mvd; systemctl stop {unit}; "
    "docker network prune --force; systemctl kill --signal=CONT gitops-mvd",
}
WITH_A_NEW_CONTAINER = {"a container removed": "docker rm --force {instance}"}


@pytest.mark.parametrize("what", [*WITH_ITS_CONTAINER, *WITH_A_NEW_CONTAINER])
def test_drift_is_put_right(story: Story, drifting: str, undisturbed: None, what: str) -> None:
    [(instance, container)] = story.containers(drifting).items()
    [image] = story.images(drifting)
    names = {"app": drifting, "instance": instance, "unit": f"{instance}.service", "image": image}

    def whole() -> str:
        """Everything there is of the app, but for the identity of its container."""
        return story.server.exec("sh", "-c", WHOLE.format(**names), check=False).out

    before = whole()
    story.run("sh", "-euc", {**WITH_ITS_CONTAINER, **WITH_A_NEW_CONTAINER}[what].format(**names))
    eventually(f"the app as it was, after {what}", lambda: whole() == before)
    assert (story.containers(drifting)[instance] == container) == (what in WITH_ITS_CONTAINER)
    story.answers("/drifting", "drifting 1")


# ---- removal ---------------------------------------------------------------------------------------------------------

STRANGER = """
docker run --detach --name mvd-stranger-web --label app=leaving {image}
printf '[Service]\\nExecStart=sleep infinity\\n' > /etc/systemd/system/mvd-stranger-web.service
systemctl daemon-reload
systemctl start mvd-stranger-web.service
"""
REMOVE_STRANGER = """
docker rm --force mvd-stranger-web
systemctl stop mvd-stranger-web.service
rm /etc/systemd/system/mvd-stranger-web.service
"""


def test_an_app_deleted_from_git_is_gone_but_for_its_data_and_all_that_is_not_ours(
    lab: Lab, story: Story, undisturbed: None
) -> None:
    image = lab.registry.push("leaving", "1", service.web("leaving", "1"))
    web = routed(image, "/leaving", volumes=["data:/data"], networks=["inner"], deploy={"replicas": 2})
    compose = {"services": {"web": web}, "volumes": {"data": {}}, "networks": {"inner": {}}}
    theirs = {"name": "theirs", "url": "http://127.0.0.1:9", "routes": [{"name": "theirs", "paths": ["/theirs"]}]}
    story.run("sh", "-euc", STRANGER.format(image=image))
    story.kong("/config", "POST", {"_format_version": "3.0", "services": [theirs]})
    story.deploy("leaving", compose)
    assert len(story.containers("leaving")) == 2
    assert story.images("leaving")

    story.remove("leaving")

    assert story.containers("leaving") == {}
    assert story.units("leaving") == []
    assert story.images("leaving") == []
    assert story.routes("leaving") == {}
    label = "--filter=label=io.gitops-mvd.app=leaving"
    assert story.run("docker", "ps", "--all", "--quiet", label) == ""
    assert story.run("docker", "network", "ls", "--quiet", label) == ""
    assert story.run("docker", "volume", "ls", label, "--format={{.Name}}") == "leaving_data\n"
    assert story.run("find", "/etc/gitops-mvd/files", "/etc/systemd", "-name", "mvd-leaving*") == ""
    assert "leaving" not in story.run("systemctl", "list-units", "--all", "mvd-*")
    assert story.kong("/routes/theirs")["paths"] == ["/theirs"]
    assert "mvd-stranger-web" in story.containers("stranger")
    assert story.run("systemctl", "is-active", "mvd-stranger-web.service") == "active\n"
    story.run("sh", "-euc", REMOVE_STRANGER)


# ---- what a Compose file says ----------------------------------------------------------------------------------------

SHOP_PAGES = {
    "/cgi-bin/db": "#!/bin/sh\necho; wget -qO- http://db:7799/",
    "/cgi-bin/orders": "#!/bin/sh\necho; cat /data/orders",
    "/cgi-bin/password": "#!/bin/sh\necho; cat /run/secrets/password; stat -c ' %a' /run/secrets/password",
    "/cgi-bin/greeting": "#!/bin/sh\necho; cat /etc/greeting/*.txt",
}


def shop(web: str, db: str) -> dict[str, Any]:
    health = {"test": ["CMD", "wget", "-qO-", "http://127.0.0.1:7799/health"], "interval": "1s"}
    web_needs = {"db": {"condition": "service_healthy"}, "migrate": {"condition": "service_completed_successfully"}}
    migrate = {
        "image": db,
        "command": ["sh", "-c", "wget -qO- http://db:7799/ >> /data/orders"],
        "restart": "no",
        "volumes": ["data:/data"],
        "depends_on": {"db": {"condition": "service_healthy"}},
    }
    return {
        "services": {
            "web": routed(
                web,
                "/shop",
                depends_on=web_needs,
                volumes=["data:/data", "./greeting:/etc/greeting:ro"],
                secrets=["password"],
            ),
            "migrate": migrate,
            "db": {"image": db, "healthcheck": health, "volumes": ["data:/data"]},
        },
        "volumes": {"data": {}},
        "secrets": {"password": {"file": "./password"}},
    }


def test_services_of_an_app_wait_for_find_and_read_what_compose_says(lab: Lab, story: Story, undisturbed: None) -> None:
    db = lab.registry.push("shop/db", "1", service.web("db", "1", after=2))
    files = {"password": "correct horse", "greeting/a.txt": "hello ", "greeting/b.txt": "world"}
    web = lab.registry.push("shop/web", "1", service.web("shop", "1", pages=SHOP_PAGES))
    story.deploy("shop", shop(web, db), **files)
    story.answers("/shop", "shop 1")
    assert story.ask("/shop/cgi-bin/db").text == "db 1\n"
    assert story.ask("/shop/cgi-bin/password").text == "correct horse 444\n"
    assert story.ask("/shop/cgi-bin/greeting").text == "hello world"
    assert story.ask("/shop/cgi-bin/orders").text == "db 1\n"
    started = [line.split()[-1] for line in story.log().splitlines() if "step app=shop create unit" in line]
    assert [name.split("-")[2] for name in started] == ["db", "migrate", "web"]

    others = {name: id for name, id in story.containers("shop").items() if "-web-" not in name}
    story.deploy("shop", shop(web, db), **{**files, "password": "battery staple"})  # which is a new version
    assert story.ask("/shop/cgi-bin/password").text == "battery staple 444\n"
    assert story.ask("/shop/cgi-bin/orders").text == "db 1\n", "the volume was kept, and the job not done again"
    assert {name: id for name, id in story.containers("shop").items() if "-web-" not in name} == others
    told = story.run("sh", "-c", "cat /etc/systemd/system/mvd-shop-*") + story.log()
    assert "correct horse" not in told
    assert "battery staple" not in told
    story.remove("shop")


# ---- images ----------------------------------------------------------------------------------------------------------


def test_a_moving_tag_is_followed_where_that_is_asked_for_and_else_the_first_stays(
    lab: Lab, story: Story, undisturbed: None
) -> None:
    def push(version: str) -> list[str]:
        names = ("follows", "stays")
        return [lab.registry.push(name, "master", service.web(name, version)) for name in names]

    follows, stays = push("1")
    services = {"follows": routed(follows, "/follows", pull_policy="always"), "stays": routed(stays, "/stays")}
    story.deploy("moving", {"services": services})
    push("2")
    story.answers("/follows", "follows 2")
    story.look_again()
    story.answers("/stays", "stays 1")
    assert len(story.containers("moving")) == 2
    assert story.mvd("plan").code == 0
    story.remove("moving")


def test_a_private_registry_is_logged_into_and_a_wrong_password_changes_nothing(
    lab: Lab, story: Story, undisturbed: None
) -> None:
    def push(version: str) -> str:
        return lab.private_registry.push("private", version, service.web("private", version))

    assert lab.private_registry.login
    user, password = lab.private_registry.login
    settings = story.run("cat", SETTINGS)
    login = {"username": user, "password_file": "/etc/gitops-mvd/registry"}
    docker = yaml.safe_dump({"docker": {"registries": {lab.private_registry.address: login}}})
    story.server.put("/etc/gitops-mvd/registry", f"{password}\n", 0o600)
    story.server.put(SETTINGS, settings + docker)  # a change of the settings is taken up by itself
    story.deploy("private", {"services": {"web": routed(push("1"), "/private")}})
    story.answers("/private", "private 1")

    before, log = story.containers(), story.log()
    story.server.put("/etc/gitops-mvd/registry", "wrong\n", 0o600)
    story.run("systemctl", "reload", DAEMON)
    commit = story.merge(manifest("private", {"services": {"web": routed(push("2"), "/private")}}), "Private 2")
    eventually("that it waits", lambda: "waiting" in dict(story.told(commit)).get("pending", ""))
    assert story.mvd("sync").code == 1
    said = [line for line in story.log().removeprefix(log).splitlines() if "private" in line and "revision" not in line]
    assert any("refused the login" in line for line in said), said
    assert not any(password in line or "wrong" in line or "Traceback" in line for line in said)
    assert story.containers() == before
    assert [state for state, _ in story.told(commit)] == ["pending", "pending"]

    story.server.put("/etc/gitops-mvd/registry", f"{password}\n", 0o600)
    story.run("systemctl", "reload", DAEMON)
    story.ends(commit, "success")
    story.answers("/private", "private 2")
    story.remove("private")
    story.server.put(SETTINGS, settings)


# ---- the daemon comes and goes ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(lab: Lab, story: Story) -> Iterator[Callable[[str], str]]:
    """An app at version 1; gives what merges another version, which takes some seconds until it answers."""

    def merge(version: str, after: float = 5) -> str:
        image = lab.registry.push("slow", version, service.web("slow", version, after=after))
        return story.merge(manifest("slow", {"services": {"web": routed(image, "/slow")}}), f"Slow {version}")

    story.ends(merge("1", after=0), "success")
    yield merge
    story.remove("slow")


def begun(story: Story) -> bool:
    """Is a second container of the slow app running beside the first?"""
    return len(story.containers("slow")) == 2


def test_a_lost_state_directory_disrupts_nothing(story: Story, undisturbed: None) -> None:
    before = story.containers()
    story.run("sh", "-c", "rm -rf /var/lib/gitops-mvd/*")
    eventually("a new state", lambda: not story.server.exec("ls", "/var/lib/gitops-mvd/history.db", check=False).code)
    story.run("systemctl", "restart", DAEMON)
    story.look_again()
    assert story.containers() == before
    plan = story.mvd("plan")
    assert (plan.code, plan.out) == (0, "")


def test_a_daemon_killed_in_the_middle_of_a_deploy_finishes_it_and_no_request_fails(
    story: Story, slow: Callable[[str], str], undisturbed: None
) -> None:
    with story.never_failing("/slow", "slow 1", "slow 2"):
        commit = slow("2")
        eventually("the new version beside the old one", lambda: begun(story))
        story.run("systemctl", "kill", "--signal=KILL", DAEMON)
        story.ends(commit, "success")
        story.answers("/slow", "slow 2")
        assert len(story.containers("slow")) == 1
    assert "status=9/KILL" in story.log()


def test_a_daemon_told_to_end_in_the_middle_of_a_deploy_ends_cleanly_and_finishes_it_later(
    story: Story, slow: Callable[[str], str], undisturbed: None
) -> None:
    with story.never_failing("/slow", "slow 1", "slow 3"):
        commit = slow("3")
        eventually("the new version beside the old one", lambda: begun(story))
        story.run("systemctl", "stop", DAEMON)
        assert story.told(commit)[-1][0] == "pending"
        assert story.run("systemctl", "show", "--property=Result,ExecMainStatus", DAEMON).split() == [
            "Result=success",
            "ExecMainStatus=0",
        ]
        assert begun(story)
        story.run("systemctl", "start", DAEMON)
        story.ends(commit, "success")
        story.answers("/slow", "slow 3")
        assert len(story.containers("slow")) == 1


def test_a_stop_right_after_a_change_of_the_settings_is_heeded(story: Story) -> None:
    story.run("touch", SETTINGS)
    story.run("systemctl", "stop", DAEMON)
    assert story.run("systemctl", "show", "--property=Result", DAEMON).strip() == "Result=success"
    story.run("systemctl", "start", DAEMON)
    story.look_again()


def test_a_restart_of_docker_is_survived_and_condemns_nothing(story: Story, steady: str) -> None:
    before, log = story.containers(), story.log()
    story.run("systemctl", "restart", "docker")  # for a moment Docker has no ports published: that is Docker's own
    eventually("every client attached again", lambda: story.mvd("status").code == 0)
    story.look_again()
    assert story.containers() == before
    story.answers("/steady", "steady 1")
    said = story.log().removeprefix(log)
    assert "step app=" not in said
    assert "rolled back" not in said


def test_while_docker_is_down_everything_serves_and_the_command_says_so(story: Story, undisturbed: None) -> None:
    docker = ("docker.socket", "docker.service")
    story.run("systemctl", "mask", "--runtime", *docker)  # our units want it, and would start it again
    try:
        with story.never_failing("/steady", "steady 1"):
            story.run("systemctl", "stop", *docker)
            began = time.monotonic()
            synced = story.mvd("sync")
            took = time.monotonic() - began
            time.sleep(3)  # for longer than our units wait before they try again
    finally:
        story.run("systemctl", "unmask", "--runtime", *docker)
        story.run("systemctl", "reset-failed", *docker)
        story.run("systemctl", "start", *docker)
    assert synced.code == 1
    assert "Docker does not answer at " in synced.err
    assert "Traceback" not in synced.err
    assert took < 15
    story.look_again()


@pytest.mark.parametrize("enabled", [False, True], ids=["without the daemon", "with the daemon"])
def test_a_reboot_brings_every_container_back(story: Story, steady: str, enabled: bool) -> None:
    before, log = sorted(story.containers()), story.log()
    story.run("systemctl", "enable" if enabled else "disable", DAEMON)
    story.server.reboot()
    eventually("every container", lambda: sorted(story.containers()) == before)
    story.answers("/steady", "steady 1")
    if not enabled:
        assert story.server.exec("systemctl", "is-active", DAEMON, check=False).out == "inactive\n"
        story.run("systemctl", "enable", "--now", DAEMON)
    containers = story.containers()
    story.look_again()
    assert story.containers() == containers
    assert "step app=" not in story.log().removeprefix(log)


# ---- a gateway with a database ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(lab: Lab) -> Iterator[Story]:
    """Another server, whose gateway has a database."""
    repository = lab.forge.create("acme/database")
    repository.commit({"README.md": "A gateway with a database\n"}, "Begin")
    server = lab.server("database")
    yield Story.set_up(lab, server, repository, mode="postgres")
    server.destroy()


@pytest.fixture(scope="module")
def chat(lab: Lab, database: Story) -> str:
    """An app on that server.  Gives its name."""
    image = lab.registry.push("chat", "1", service.web("chat", "1"))
    database.deploy("chat", {"services": {"web": routed(image, "/chat")}})
    return "chat"


def test_a_gateway_with_a_database_follows_a_deploy_a_change_and_a_removal(
    lab: Lab, database: Story, chat: str
) -> None:
    theirs = {"name": "theirs", "url": "http://127.0.0.1:9"}
    database.kong("/services", "POST", theirs)
    before = database.routes(chat)
    first = lab.registry.push("brief", "1", service.web("brief", "1"))
    database.deploy("brief", {"services": {"web": routed(first, "/brief")}})
    with database.never_failing("/brief", "brief 1", "brief 2"):
        second = lab.registry.push("brief", "2", service.web("brief", "2"))
        database.deploy("brief", {"services": {"web": routed(second, "/brief", deploy={"replicas": 2})}})
        database.answers("/brief", "brief 2")
    [route] = database.routes("brief").values()
    assert route["paths"] == ["/brief"]
    database.remove("brief")
    assert database.routes("brief") == {}
    assert [it["name"] for it in database.kong("/services")["data"] if "brief" in it["name"]] == []
    assert [it["name"] for it in database.kong("/upstreams")["data"] if "brief" in it["name"]] == []
    eventually("no route to it", lambda: database.ask("/brief").status_code == 404)
    assert database.kong("/services/theirs")["host"] == "127.0.0.1"
    assert database.routes(chat) == before


@pytest.mark.parametrize(("method", "body"), [("DELETE", None), ("PATCH", {"paths": ["/elsewhere"]})])
def test_a_route_changed_by_hand_is_put_right(database: Story, chat: str, method: str, body: Any) -> None:
    database.look_again()
    before, containers = database.routes(chat), database.containers()
    [name] = before
    database.kong(f"/routes/{name}", method, body)
    eventually("the route as it was", lambda: without_times(database.routes(chat)) == without_times(before))
    database.answers("/chat", "chat 1")
    assert database.containers() == containers
    assert database.mvd("plan").code == 0


def without_times(routes: dict[str, Any]) -> dict[str, Any]:
    """Routes, but for when they were written."""
    return {name: {k: v for k, v in route.items() if not k.endswith("_at")} for name, route in routes.items()}


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_tells_what_is_well_and_what_was_done(story: Story, steady: str) -> None:
    story.look_again()
    status = story.mvd("status", "--json")
    assert status.code == 0
    apps = {app["name"]: app for app in json.loads(status.out)["apps"]}
    assert [apps[steady][name] for name in ("sync", "health", "why")] == ["Synced", "Healthy", ""]
    assert re.search(r"^steady +Synced +Healthy +1/1 +[0-9a-f]{7} +[0-9]+[smh]$", story.mvd("status").out, re.MULTILINE)

    history = story.mvd("history", "--json", "--app", steady, "-n", "1")
    [event] = json.loads(history.out)
    assert history.code == 0
    assert (event["app"], event["operation"], event["health"]) == (steady, "Succeeded", "Healthy")

    synced = story.mvd("sync", "--json")
    assert synced.code == 0
    told = {outcome["app"]: outcome for outcome in json.loads(synced.out)}
    assert told[steady]["operation"] == "Succeeded"

    assert "steady 1 listens on port 7799" in story.mvd("logs", f"{steady}/web", "-n", "5").out

    doctor = story.mvd("doctor", "--json")
    assert doctor.code == 0
    found = {finding["what"]: finding["verdict"] for finding in json.loads(doctor.out)}
    assert found.keys() >= {"settings", "docker", "systemd", "repository", "kong", "forge", "disk"}
    assert set(found.values()) <= {"ok", "warn"}


def test_a_bad_version_is_told_by_the_command_and_tried_again_on_request(
    lab: Lab, story: Story, undisturbed: None
) -> None:
    image = lab.registry.push("sickly", "1", service.web("sickly", "1"))
    bad = lab.registry.push("sickly", "2", service.crashing("sickly", "2"))
    story.deploy("sickly", {"services": {"web": routed(image, "/sickly")}})
    assert story.mvd("retry", "sickly").code == 1
    commit = story.merge(manifest("sickly", {"services": {"web": routed(bad, "/sickly")}}), "Sickly 2")
    assert "exited with code 1" in story.ends(commit, "failure")
    story.answers("/sickly", "sickly 1")

    status = story.mvd("status", "--json")
    [app] = [app for app in json.loads(status.out)["apps"] if app["name"] == "sickly"]
    assert status.code == 1
    assert (app["sync"], app["health"]) == ("OutOfSync", "Healthy")
    assert "exited with code 1" in app["why"]
    plan = story.mvd("plan", "--json")
    assert plan.code == 0, "what is marked failed is not planned"
    assert "exited with code 1" in json.loads(plan.out)["held"]["sickly"]
    assert story.mvd("sync").code == 1

    log = story.log()
    assert story.mvd("retry", "sickly").code == 0
    story.mvd("sync")
    assert "create unit mvd-sickly-web" in story.log().removeprefix(log)
    story.answers("/sickly", "sickly 1")
    story.remove("sickly")


def test_a_repository_is_checked_by_the_command_without_any_settings(story: Story) -> None:
    story.server.put(
        "/tmp/repository/apps/web/compose.yaml", "services:\n  web:\n    image: a:1\n    umask: 0022\n    prots: [80]\n"
    )
    bad = story.mvd("--config", "/nonexistent", "validate", "/tmp/repository", "--json")
    assert bad.code == 1
    assert [(it["file"], it["line"]) for it in json.loads(bad.out)["problems"]] == [
        ("apps/web/compose.yaml", 4),
        ("apps/web/compose.yaml", 5),
    ]
    story.server.put("/tmp/repository/apps/web/compose.yaml", "services:\n  web:\n    image: a:1\n")
    good = story.mvd("--config", "/nonexistent", "validate", "/tmp/repository", "--json")
    assert (good.code, json.loads(good.out)["problems"]) == (0, [])
