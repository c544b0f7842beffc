"""Bad days, on a real server: each gives one clear line, changes nothing that runs, and mends when its cause goes."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gitops_mvd.api.endpoints import ALONE
from tests.integration.stories import (
    DAEMON,
    HEALTH,
    Story,
    eventually,
    manifest,
    no_api,
    routed,
    settings,
    write_settings,
)
from tests.lab import service
from tests.lab.dialects.github import MOST_STATUSES
from tests.lab.lab import Lab
from tests.lab.repository import Status, git
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

STATE, FILES, UNITS = "/var/lib/gitops-mvd", "/etc/gitops-mvd/files", "/etc/systemd/system"
DISKS = {STATE: "24m", FILES: "1m", UNITS: "4m"}

Said = Callable[[], list[str]]


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, whose three folders of ours are small disks; every test has apps of its own."""
    repository = lab.forge.create("acme/bad-days")
    repository.commit({"README.md": "Bad days\n"}, "Begin")
    server = lab.server("bad-days")
    for folder, size in DISKS.items():
        mounted = (
            f"mkdir -p {folder} && cp -a {folder} /tmp/was && mount -t tmpfs -o size={size},mode=755 tmpfs {folder}"
        )
        server.exec("sh", "-ec", f"{mounted} && cp -a /tmp/was/. {folder} && rm -r /tmp/was")
    server.exec("systemctl", "daemon-reload")
    story = Story.set_up(lab, server, repository)
    write_settings(story, story.run("cat", SETTINGS).replace("interval: 2s", "interval: 1s"), "daemon started")
    yield story
    server.destroy()


@pytest.fixture(scope="module")
def steady(lab: Lab, story: Story) -> str:
    """An app that nobody ever touches.  Gives its name."""
    image = lab.registry.push("steady", "1", service.web("steady", "1"))
    story.deploy("steady", {"services": {"web": routed(image, "/steady")}})
    return "steady"


@pytest.fixture(autouse=True)
def undisturbed(story: Story, steady: str) -> Iterator[None]:
    """Whatever happens: what runs is not touched, and the daemon does not die of it."""
    before = story.containers(steady), main_process(story)
    yield
    assert (story.containers(steady), main_process(story)) == before
    story.answers("/steady", "steady 1")


@pytest.fixture
def said(story: Story) -> Said:
    """What the daemon has said since the test began, by lines."""
    before = len(story.log().splitlines())
    return lambda: [line for line in story.log().splitlines()[before:] if " status sent " not in line]


def main_process(story: Story) -> str:
    return story.run("systemctl", "show", DAEMON, "--property=NRestarts")


def lines(said: Said, text: str) -> list[str]:
    return [line for line in said() if text in line]


def is_said_once(story: Story, said: Said, text: str) -> None:
    """Wait for it, look again, and see that it is not said again."""
    eventually(f"{text!r} in the log", lambda: lines(said, text))
    story.mvd("sync")
    told = lines(said, text)
    assert len(told) == 1, "\n".join(told)


def waits(story: Story, commit: str, why: str) -> None:
    """See that a commit is pending, for a reason."""
    eventually(f"{why!r} in the status", lambda: any(why in description for _, description in story.told(commit)))
    assert {state for state, _ in story.told(commit)} == {"pending"}


# ---- the repository --------------------------------------------------------------------------------------------------


@contextmanager
def no_answer(lab: Lab, story: Story) -> Iterator[None]:
    lab.forge.down = True
    try:
        yield
    finally:
        lab.forge.down = False


@contextmanager
def another_token(lab: Lab, story: Story) -> Iterator[None]:
    token, lab.forge.token = lab.forge.token, "another"
    try:
        yield
    finally:
        lab.forge.token = token


@contextmanager
def no_repository(lab: Lab, story: Story) -> Iterator[None]:
    gone = lab.forge.repositories.pop(story.repository.name)
    try:
        yield
    finally:
        lab.forge.repositories[story.repository.name] = gone


@contextmanager
def no_branch(lab: Lab, story: Story) -> Iterator[None]:
    git("branch", "--move", "main", "trunk", at=story.repository.path)
    try:
        yield
    finally:
        git("branch", "--move", "trunk", "main", at=story.repository.path)


@contextmanager
def force_pushed(lab: Lab, story: Story) -> Iterator[None]:
    tip, *_, first = git("rev-list", "main", at=story.repository.path).splitlines()
    git("update-ref", "refs/heads/main", first, at=story.repository.path)
    try:
        yield
    finally:
        git("update-ref", "refs/heads/main", tip, at=story.repository.path)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (no_answer, "bad-days.git does not answer"),
        (another_token, "refused the login"),
        (no_repository, "has no such repository"),
        (no_branch, "has no branch main"),
        (force_pushed, "which does not build on it"),
    ],
)
def test_while_the_repository_is_out_of_reach_the_host_is_kept_as_it_was(
    lab: Lab, story: Story, said: Said, trouble: Callable[..., Iterator[None]], sentence: str
) -> None:
    image = lab.registry.push("kept", "1", service.web("kept", "1"))
    if not story.units("kept"):
        story.deploy("kept", {"services": {"web": routed(image, "/kept")}})
    with trouble(lab, story):
        story.run("systemctl", "stop", story.unit("kept"))
        is_said_once(story, said, sentence)
        story.answers("/kept", "kept 1")
    story.ends(story.merge({"README.md": f"{sentence}\n"}, "Change nothing that runs"), "success")
    mended = [line for line in lines(said, "resolved for=") if sentence in line]
    assert len(mended) == 1, said()


# ---- registries ------------------------------------------------------------------------------------------------------


def test_a_registry_that_is_down_is_waited_for(lab: Lab, story: Story, said: Said) -> None:
    web = {tag: lab.registry.push("fetched", tag, service.web("fetched", tag)) for tag in ("1", "2")}
    story.deploy("fetched", {"services": {"web": routed(web["1"], "/fetched")}})
    lab.registry.stop()
    try:
        commit = story.merge(manifest("fetched", {"services": {"web": routed(web["2"], "/fetched")}}), "Fetch 2")
        waits(story, commit, f"fetched: waiting: could not resolve image {web['2']}")
        is_said_once(story, said, f"could not resolve image {web['2']}")
        story.answers("/fetched", "fetched 1")
    finally:
        lab.registry.start()
    story.ends(commit, "success")
    story.answers("/fetched", "fetched 2")


@pytest.mark.parametrize(("missing", "cause"), [("spelled:2", "there is no such image"), ("speled:1", "no such")])
def test_an_image_that_nobody_has_is_red_and_the_old_version_serves(
    lab: Lab, story: Story, said: Said, missing: str, cause: str
) -> None:
    image = lab.registry.push("spelled", "1", service.web("spelled", "1"))
    wrong = f"{lab.registry.address}/{missing}"
    story.deploy("spelled", {"services": {"web": routed(image, "/spelled")}})
    commit = story.merge(manifest("spelled", {"services": {"web": routed(wrong, "/spelled")}}), "Misspell")
    told = story.ends(commit, "failure")
    assert missing in told
    assert cause in " ".join(lines(said, missing))
    is_said_once(story, said, missing)
    story.answers("/spelled", "spelled 1")
    story.ends(story.revert(commit), "success")


def test_a_login_that_a_registry_refuses_is_told_and_the_right_password_is_taken_up(
    lab: Lab, story: Story, said: Said
) -> None:
    registry = lab.private_registry
    assert registry.login
    user, password = registry.login
    image = registry.push("hidden", "1", service.web("hidden", "1"))
    login = f"docker: {{registries: {{'{registry.address}': {{username: {user}, password_file: /etc/registry}}}}}}"
    story.server.put("/etc/registry", "wrong\n", 0o600)
    with settings(story, login):
        commit = story.merge(manifest("hidden", {"services": {"web": routed(image, "/hidden")}}), "Hide")
        waits(story, commit, "hidden: waiting: could not resolve image")
        is_said_once(story, said, "the registry refused the login")
        story.server.put("/etc/registry", f"{password}\n", 0o600)
        story.ends(commit, "success")


# ---- the gateway -----------------------------------------------------------------------------------------------------


def test_while_kong_is_down_only_what_is_routed_waits(lab: Lab, story: Story, said: Said) -> None:
    image = lab.registry.push("either", "1", service.web("either", "1"))
    newer = lab.registry.push("either", "2", service.web("either", "2"))
    story.deploy("routed", {"services": {"web": routed(image, "/routed")}})
    running = story.containers("routed")
    unrouted = {"image": newer, "x-mvd": {"health": HEALTH}}
    stop_kong(story)
    try:
        commit = story.merge(
            manifest("routed", {"services": {"web": routed(newer, "/routed")}})
            | manifest("unrouted", {"services": {"web": unrouted}}),
            "Deploy with and without a route",
        )
        waits(story, commit, "waiting: Kong at http://127.0.0.1:8001 cannot be reached")
        eventually("the app without a route", lambda: story.containers("unrouted"))
        story.mvd("sync")
        told = lines(said, "Kong at http://127.0.0.1:8001 cannot be reached")
        assert len(told) == len(set(told)) <= 2, "once for each of the two commits"
        assert story.containers("routed") == running
        shown = story.mvd("status").out
        assert "unrouted" in shown
        assert "cannot be reached" in shown
    finally:
        start_kong(story)
    story.ends(commit, "success")
    story.answers("/routed", "either 2")


def test_a_kong_that_came_back_empty_is_filled_again(lab: Lab, story: Story) -> None:
    stop_kong(story)
    start_kong(story, empty=True)
    eventually("the routes", lambda: story.routes("steady"))
    story.answers("/steady", "steady 1")


def stop_kong(story: Story) -> None:
    story.run(*(("docker", "stop", "kong") if is_real(story) else ("systemctl", "stop", "kong.service")))


def start_kong(story: Story, *, empty: bool = False) -> None:
    if is_real(story):
        story.run("docker", "rm", "--force", "kong") if empty else story.run("docker", "start", "kong")
    elif empty:
        story.run("rm", "--recursive", "/var/lib/kong")
    if not is_real(story) or empty:
        story.server.start_gateway("off")


def is_real(story: Story) -> bool:
    return not story.gateway.startswith("stand-in")


# ---- disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def full(story: Story, folder: str) -> Iterator[None]:
    ballast = f"{folder}/.ballast"
    story.server.exec("dd", "if=/dev/zero", f"of={ballast}", "bs=4k", check=False)
    try:
        yield
    finally:
        story.run("rm", "--force", ballast)


@pytest.mark.parametrize("folder", [FILES, UNITS])
def test_a_full_disk_is_told_and_nothing_is_left_half_written(lab: Lab, story: Story, said: Said, folder: str) -> None:
    app = f"full-{folder.rpartition('/')[2]}"
    web = {tag: lab.registry.push(app, tag, service.web(app, tag)) for tag in ("1", "2")}
    story.deploy(app, {"services": {"web": routed(web["1"], f"/{app}")}})
    before = story.containers(app)
    with full(story, folder):
        commit = story.merge(manifest(app, {"services": {"web": routed(web["2"], f"/{app}")}}), "Fill up")
        waits(story, commit, f"{app}: waiting: cannot write {folder}/mvd-{app}-web-")
        is_said_once(story, said, "the disk is full: make room, the next pass goes on")
        assert story.containers(app) == before
        assert story.run("find", FILES, UNITS, "-name", "*.new") == ""
        story.answers(f"/{app}", f"{app} 1")
    story.ends(commit, "success")
    story.answers(f"/{app}", f"{app} 2")


def test_where_the_state_can_not_be_written_nothing_is_begun(lab: Lab, story: Story, said: Said) -> None:
    image = lab.registry.push("roomy", "1", service.web("roomy", "1"))
    with full(story, STATE):
        commit = story.merge(manifest("roomy", {"services": {"web": routed(image, "/roomy")}}), "Want room")
        eventually("that it is told", lambda: lines(said, "make room"))
        story.run("sleep", "4")
        told = lines(said, "make room")  # for the mirror, and for the history
        assert len(told) == len(set(told)), told
        assert not story.containers("roomy")
    story.ends(commit, "success")
    story.answers("/roomy", "roomy 1")


# ---- manifests -------------------------------------------------------------------------------------------------------


def test_a_mistake_holds_its_own_app_at_what_worked_and_no_other(lab: Lab, story: Story, said: Said) -> None:
    image = lab.registry.push("mistaken", "1", service.web("mistaken", "1"))
    first = story.deploy("mistaken", {"services": {"web": routed(image, "/mistaken")}})
    wrong = {"services": {"web": {"prots": ["80:80"], **routed(image, "/elsewhere")}}}
    fine = {"services": {"web": routed(image, "/beside")}}
    commit = story.merge(manifest("mistaken", wrong) | manifest("beside", fine), "Deploy beside a mistake")
    cause = "mistaken: apps/mistaken/compose.yaml:3: services.web.prots"
    assert story.ends(commit, "failure").startswith(cause)
    story.answers("/beside", "mistaken 1")
    story.run("systemctl", "stop", story.unit("mistaken"))
    is_said_once(story, said, cause)
    story.answers("/mistaken", "mistaken 1")
    assert cause.partition(" ")[2] in story.mvd("status").out
    assert story.ask("/elsewhere").status_code == 404
    story.ends(story.merge(manifest("mistaken", {"services": {"web": routed(image, "/mistaken")}}), "Mend"), "success")
    assert story.told(first)[-1][0] == "success"


@pytest.mark.parametrize(
    ("fleet", "cause"),
    [
        ("hosts:\n  bad-days:\n    lables: {a: b}\n", "fleet.yaml:3: hosts.bad-days.lables"),
        ("hosts:\n  another: {}\n", "fleet.yaml:1: hosts: has no host bad-days"),
    ],
)
def test_a_fleet_without_this_host_changes_nothing(story: Story, said: Said, fleet: str, cause: str) -> None:
    before = story.containers()
    commit = story.merge({"fleet.yaml": fleet, "apps/steady/compose.yaml": None}, "Break the fleet")
    told = story.ends(commit, "failure")
    assert cause in told
    eventually("that it is said", lambda: lines(said, cause))
    story.run("sleep", "2")
    assert len(lines(said, cause)) == 1, said()
    assert story.containers() == before
    story.ends(story.revert(commit), "success")


def test_what_is_hostile_in_a_repository_is_told_and_the_other_apps_go_on(
    lab: Lab, story: Story, tmp_path: Path
) -> None:
    image = lab.registry.push("calm", "1", service.web("calm", "1"))
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    reaching = {"services": {"web": {"image": image, "env_file": "../../../../etc/passwd"}}}
    with pushing(story, tmp_path) as work:
        for name, text in {
            **manifest("calm", {"services": {"web": routed(image, "/calm")}}),
            **manifest("reaching", reaching),
            **manifest("Str\u00e4nge; $(reboot)", {"services": {"web": {"image": image}}}),
            "apps/bomb/compose.yaml": "\n".join(bomb),
            "apps/huge/compose.yaml": "#" * (17 << 20),
        }.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text or "")
        (work / "apps/linked").mkdir()
        (work / "apps/linked/compose.yaml").symlink_to("/etc/passwd")
        (work / "apps/folder").symlink_to("/etc")
    commit = story.repository.resolve("main")
    story.ends(commit, "failure")
    story.answers("/calm", "calm 1")
    shown = story.mvd("status").out
    for app, cause in {
        "reaching": "apps/reaching/compose.yaml:4: services.web.env_file",
        "Str\u00e4nge; $(reboot)": "Str\u00e4nge",
        "bomb": "apps/bomb/compose.yaml:",
        "huge": "apps/huge/compose.yaml:1: has 17,825,792 bytes",
        "linked": "apps/linked/compose.yaml:1: ",
    }.items():
        [line] = [line for line in shown.splitlines() if line.startswith(app)]
        assert cause in line
        assert not story.containers(app)
    story.ends(story.revert(commit), "success")


@contextmanager
def pushing(story: Story, folder: Path) -> Iterator[Path]:
    """A copy of main, pushed at the end with all that is in it by then."""
    work = folder / "work"
    git("clone", "--quiet", str(story.repository.path), str(work), at=folder)
    yield work
    git("add", "--all", at=work)
    git("commit", "--quiet", "--message", "Be hostile", at=work)
    git("push", "--quiet", "origin", "main", at=work)


# ---- versions --------------------------------------------------------------------------------------------------------


def test_a_sick_version_is_rolled_back_in_its_time_and_tried_again_only_when_told_to(
    lab: Lab, story: Story, said: Said
) -> None:
    well = lab.registry.push("sickly", "1", service.web("sickly", "1"))
    sick = lab.registry.push("sickly", "2", service.sick("sickly", "2"))
    story.deploy("sickly", {"services": {"web": routed(well, "/sickly")}})
    before = story.containers("sickly")
    soon = {"x-mvd": {"health": {**HEALTH, "within": "2s"}}}
    with story.never_failing("/sickly", "sickly 1"):
        commit = story.merge(manifest("sickly", {"services": {"web": routed(sick, "/sickly") | soon}}), "Fall ill")
        told = story.ends(commit, "failure")
    assert told == "sickly: web: http 500 from /health for 2 s; rolled back"
    is_said_once(story, said, "http 500 from /health")
    assert story.containers("sickly") == before
    tries = len(lines(said, "step app=sickly create unit"))
    assert "http 500 from /health" in story.mvd("status").out
    assert story.mvd("retry", "sickly").code == 0
    assert story.mvd("sync").code == 1
    assert len(lines(said, "step app=sickly create unit")) == tries + 1 == 3
    assert story.containers("sickly") == before
    assert [state for state, _ in story.told(commit)] == ["pending", "failure"]
    story.ends(story.revert(commit), "success")


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (["sh", "-c", "echo giving up; exit 3"], "exited with code 3; it last said: giving up"),
        (["no-such-program"], 'exec: "no-such-program": executable file not found'),
    ],
)
def test_a_first_version_that_fails_leaves_nothing_but_its_image_until_the_commit_wants_another_one(
    lab: Lab, story: Story, command: list[str], cause: str
) -> None:
    image = lab.registry.push("stillborn", "1", service.web("stillborn", "1"))
    what = {"command": command, "x-mvd": {"health": {**HEALTH, "within": "4s"}}}
    commit = story.merge(manifest("stillborn", {"services": {"web": routed(image, "/born") | what}}), "Deploy")
    told = story.ends(commit, "failure")
    assert told.startswith("stillborn: web: ")
    assert cause in told
    left = story.containers("stillborn"), story.units("stillborn"), story.routes("stillborn")
    assert left == ({}, [], {})
    assert story.run("find", FILES, "-name", "mvd-stillborn-*") == ""
    assert len(story.images("stillborn")) == 1
    story.ends(story.revert(commit), "success")
    assert story.images("stillborn") == []


def test_a_container_that_will_not_end_is_replaced_within_its_grace(lab: Lab, story: Story) -> None:
    image = lab.registry.push("stubborn", "1", service.web("stubborn", "1"))
    serve = "trap '' TERM; while true; do httpd -f -p 7799 -h /www; done"
    web = routed(image, "/stubborn", command=["sh", "-c", serve], stop_grace_period="2s")
    story.deploy("stubborn", {"services": {"web": web}})
    before = story.containers("stubborn")
    story.deploy("stubborn", {"services": {"web": web | {"environment": {"NEW": "1"}}}})
    eventually("the end of the old one", lambda: len(story.containers("stubborn")) == 1)
    assert story.containers("stubborn").keys().isdisjoint(before)
    stamped = story.run("journalctl", "--unit", DAEMON, "--output=short-unix", "--no-pager").splitlines()
    deleted = [float(line.split()[0]) for line in stamped if "step app=stubborn delete" in line]
    assert 2 <= deleted[1] - deleted[0] < 10, "from the unit to its configuration"


def test_a_stop_first_service_with_a_bad_version_comes_back_with_the_old_one(lab: Lab, story: Story) -> None:
    well = lab.registry.push("single", "1", service.web("single", "1"))
    bad = lab.registry.push("single", "2", service.crashing("single", "2"))
    alone = {"deploy": {"update_config": {"order": "stop-first"}}}
    story.deploy("single", {"services": {"web": routed(well, "/single") | alone}})
    commit = story.merge(manifest("single", {"services": {"web": routed(bad, "/single") | alone}}), "Crash")
    assert story.ends(commit, "failure").startswith("single: web: exited with code 1; it last said: single 2: cannot")
    story.answers("/single", "single 1")
    story.ends(story.revert(commit), "success")


def test_a_revert_overtakes_the_bad_deploy_that_it_mends(lab: Lab, story: Story, said: Said) -> None:
    well = lab.registry.push("hasty", "1", service.web("hasty", "1"))
    sick = lab.registry.push("hasty", "2", service.sick("hasty", "2"))
    patient = {"x-mvd": {"health": {**HEALTH, "within": "80s"}}}
    story.deploy("hasty", {"services": {"web": routed(well, "/hasty") | patient}})
    before = story.containers("hasty")
    bad = story.merge(manifest("hasty", {"services": {"web": routed(sick, "/hasty") | patient}}), "Hurry")
    eventually("the bad version", lambda: len(lines(said, "step app=hasty create unit")) == 2)
    began = time.monotonic()
    between = story.merge({"README.md": "hurry\n"}, "Hurry even more")
    mended = story.revert(bad)
    story.ends(mended, "success")
    assert time.monotonic() - began < 70, "the bad version is given 80 s"
    assert story.containers("hasty") == before
    eventually("the end of the bad commit", lambda: story.told(bad)[-1] == ("error", f"superseded by {mended[:7]}"))
    assert [state for state, _ in story.told(bad)] == ["pending", "error"]
    assert [state for state, _ in story.told(between)] in ([], ["pending", "error"])
    assert [state for state, _ in story.told(mended)] == ["pending", "success"]


# ---- statuses --------------------------------------------------------------------------------------------------------


def test_statuses_that_can_not_be_delivered_hold_up_nothing_and_come_later(lab: Lab, story: Story, said: Said) -> None:
    image = lab.registry.push("untold", "1", service.web("untold", "1"))
    with no_api(lab):
        commits = [story.merge(manifest("untold", {"services": {"web": routed(image, "/untold")}}), "Deploy untold")]
        story.answers("/untold", "untold 1")
        commits += [story.merge({"README.md": "untold\n"}, "Change nothing that runs")]
        eventually("the second commit", lambda: lines(said, f"at {commits[1][:7]}: "))
        story.run("systemctl", "restart", DAEMON)
        eventually("the other daemon", lambda: len(lines(said, f"at {commits[1][:7]}: ")) == 2)
        assert 1 <= len(lines(said, "statuses wait: ")) <= 2, "once by each daemon"
    for commit in commits:
        eventually("the status", lambda commit=commit: story.told(commit), 60)
        assert story.told(commit)[-1][0] == "success"


@contextmanager
def slowly_deployed(lab: Lab, story: Story, app: str) -> Iterator[str]:
    """In the middle of a deploy, whose end serves its new version whatever the forge does.  Gives the commit."""
    old, new = (lab.registry.push(app, tag, service.web(app, tag, after=after)) for tag, after in (("1", 0), ("2", 3)))
    story.deploy(app, {"services": {"web": routed(old, f"/{app}")}})
    with story.never_failing(f"/{app}/", f"{app} 1", f"{app} 2"):
        commit = story.merge(manifest(app, {"services": {"web": routed(new, f"/{app}")}}), f"Deploy {app}, slowly")
        eventually("the new version beside the old one", lambda: len(story.containers(app)) == 2)
        eventually("that it is told", lambda: story.told(commit))
        yield commit
    story.answers(f"/{app}", f"{app} 2")


def test_a_token_revoked_in_the_middle_disturbs_no_deploy_and_a_new_one_delivers_what_waits(
    lab: Lab, story: Story, said: Said
) -> None:
    token, newer = lab.forge.token, "another-token-of-the-lab"
    try:
        with slowly_deployed(lab, story, "revoked") as commit:
            lab.forge.token = newer
            story.answers("/revoked", "revoked 2")
        is_said_once(story, said, "statuses wait: ")
        assert "refused the token" in lines(said, "statuses wait: ")[0]
        assert {state for state, _ in story.told(commit)} == {"pending"}
        take_up(story, newer)
        assert story.ends(commit, "success")
        assert newer not in story.log()
    finally:
        lab.forge.token = token
        take_up(story, token or "")


def take_up(story: Story, token: str) -> None:
    """Write another token into its file, which the daemon notices."""
    times = story.log().count("daemon started")
    story.server.put("/etc/gitops-mvd/token", f"{token}\n", 0o600)
    eventually("a reload", lambda: story.log().count("daemon started") > times)


def test_a_repository_with_a_new_name_disturbs_no_deploy_and_the_name_in_the_settings_delivers_it(
    lab: Lab, story: Story, said: Said
) -> None:
    before, name = story.run("cat", SETTINGS), story.repository.name
    try:
        with slowly_deployed(lab, story, "renamed") as commit:
            lab.forge.rename(name, "acme/renamed")
            story.answers("/renamed", "renamed 2")
        moved = f"says that {name} has moved (put its new name into the settings)"
        is_said_once(story, said, "status rejected ")
        assert moved in lines(said, "status rejected ")[0]
        assert all(line.endswith(moved) for line in lines(said, "has moved"))
        assert len(lines(said, "has moved")) <= 2, "once for the status, once for the pull requests"
        named = before.replace("forge: {kind: github,", "forge: {kind: github, repository: acme/renamed,")
        write_settings(story, named, "daemon started")
        assert story.ends(commit, "success")
    finally:
        lab.forge.rename_back(name)
        write_settings(story, before, "daemon started")


def test_a_forge_that_shows_a_login_page_is_waited_for(lab: Lab, story: Story, said: Said) -> None:
    try:
        with slowly_deployed(lab, story, "paged") as commit:
            lab.forge.html = True
            story.answers("/paged", "paged 2")
        is_said_once(story, said, "statuses wait: ")
        assert "answered with something else than JSON: Please log in" in lines(said, "statuses wait: ")[0]
        assert {state for state, _ in story.told(commit)} == {"pending"}
    finally:
        lab.forge.html = False
    story.ends(commit, "success")


def test_a_forge_that_wants_no_more_requests_is_left_alone_for_as_long(lab: Lab, story: Story, said: Said) -> None:
    turned_away = lab.forge.turned_away
    with slowly_deployed(lab, story, "limited") as commit:
        until = time.monotonic() + 30
        lab.forge.allow(0, 30)
        story.answers("/limited", "limited 2")
    is_said_once(story, said, "statuses wait: ")
    assert "allows no more requests for" in lines(said, "statuses wait: ")[0]
    while time.monotonic() < until - 10:
        story.mvd("sync")
    assert lab.forge.turned_away - turned_away <= 2, "one for the statuses, one for the pull requests"
    assert {state for state, _ in story.told(commit)} == {"pending"}
    story.ends(commit, "success")


def test_a_status_that_is_refused_holds_up_no_other(lab: Lab, story: Story, said: Said) -> None:
    with story.without_daemon():
        worn = story.merge({"README.md": "worn\n"}, "Wear out")
        for _ in range(MOST_STATUSES):
            story.repository.post(worn, Status(story.context, "pending", "before", "", datetime.now(UTC)))
    eventually("the refusal", lambda: lines(said, "takes no more than 1000 statuses"))
    story.ends(story.merge({"README.md": "fresh\n"}, "Begin again"), "success")
    assert all("Traceback" not in line for line in said())


def test_no_secret_is_seen_anywhere(lab: Lab, story: Story) -> None:
    password, secret = "canary-of-the-environment", "canary-of-a-secret-file"
    image = lab.registry.push("canary", "1", service.web("canary", "1"))
    web = routed(image, "/canary", environment={"PASSWORD": password}, secrets=["key"])
    compose = {"services": {"web": web}, "secrets": {"key": {"file": "key"}}}
    good = story.deploy("canary", compose, key=secret)
    words = {"command": ["sh", "-c", "echo $$PASSWORD; cat /run/secrets/key; exit 1"]}
    bad = story.merge(manifest("canary", {**compose, "services": {"web": web | words}}), "Sing")
    told = story.ends(bad, "failure")
    assert "exited with code 1" in told
    assert lab.forge.token
    canaries = (
        password,
        secret,
        lab.forge.token,
        base64.b64encode(f"x-access-token:{lab.forge.token}".encode()).decode(),
    )
    seen = {
        "the log": story.log(),
        "statuses": repr([story.told(commit) for commit in (good, bad)]),
        "command lines": story.run("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; true"),
        "units": story.run("sh", "-c", f"cat {UNITS}/*.service {UNITS}/*/*.service"),
        "properties": story.run("systemctl", "show", DAEMON, story.unit("canary")),
        "docker events": story.run("docker", "events", "--since=10m", "--until=0s"),
        "the mirror's settings": story.run("sh", "-c", f"cat {STATE}/mirror/config"),
        **{words: story.mvd(*words.split()).out for words in ("status", "history", "history --json", "plan", "doctor")},
    }
    found = {(where, canary) for where, text in seen.items() for canary in canaries if canary in text}
    assert not found
    assert lab.forge.token.encode() not in story.run("cat", f"{STATE}/history.db", f"{STATE}/history.db-wal").encode()
    readable = story.run("find", STATE, FILES, "-type", "f", "-perm", "/077", "-not", "-path", f"{FILES}/*/files/*")
    assert readable == ""
    story.ends(story.revert(bad), "success")


# ---- settings --------------------------------------------------------------------------------------------------------


def test_a_mistake_in_the_settings_is_told_and_those_before_stay(lab: Lab, story: Story, said: Said) -> None:
    before = story.run("cat", SETTINGS)
    with settings(story, "branhc: trunk", "settings rejected"):
        [told] = lines(said, "settings rejected")
        assert f"{SETTINGS}:{len(before.splitlines()) + 1}: branhc: " in told
        story.ends(story.merge({"README.md": "settings\n"}, "Go on"), "success")
        shown = story.mvd("status")
        assert (shown.code, "the settings are rejected" in shown.out, "branhc: " in shown.out) == (1, True, True)
    with settings(
        story, "docker: {registries: {r: {username: u, password_file: /etc/none}}}", "cannot read /etc/none "
    ):
        missing = story.server.exec("env", f"{ALONE}=1", "mvd", "status", check=False)  # the daemon has those before
        assert missing.code == 1
        assert (
            missing.err.splitlines()[0]
            == "mvd: cannot read /etc/none (docker.registries.r.password_file): No such file or directory"
        )
    times = story.log().count("daemon started")
    story.run("systemctl", "reload", DAEMON)
    eventually("a reload", lambda: story.log().count("daemon started") > times)
    story.ends(story.merge({"README.md": "good settings\n"}, "Go on as before"), "success")


def test_without_settings_the_command_says_what_to_do(story: Story) -> None:
    for words in (["status"], ["sync"], ["run"], ["plan"]):
        said = story.mvd("--config", "/etc/none.yaml", *words)
        assert said.code == 1
        assert "cannot read /etc/none.yaml: no such file" in said.err
        assert "mvd install --repository URL" in said.err


def test_two_syncs_without_a_daemon_do_it_once(lab: Lab, story: Story) -> None:
    image = lab.registry.push("synced", "1", service.web("synced", "1"))
    with story.without_daemon(), ThreadPoolExecutor() as pool:
        commit = story.merge(manifest("synced", {"services": {"web": routed(image, "/synced")}}), "Sync twice")
        both = [pool.submit(story.mvd, "sync") for _ in range(2)]
        results = [one.result() for one in both]
        assert [(result.code, "synced" in result.out) for result in results] == [(0, True)] * 2, results
        assert sum("step app=synced create unit" in result.err for result in results) == 1
        story.answers("/synced", "synced 1")
    story.ends(commit, "success")


def test_a_sync_beside_the_daemon_is_served_by_the_daemon(lab: Lab, story: Story) -> None:
    image = lab.registry.push("served", "1", service.web("served", "1"))
    commit = story.merge(manifest("served", {"services": {"web": routed(image, "/served")}}), "Sync beside")
    result = story.mvd("sync")
    assert (result.code, "served" in result.out, "step app=" in result.err) == (0, True, False)
    story.answers("/served", "served 1")
    story.ends(commit, "success")


# ---- an engine that hangs --------------------------------------------------------------------------------------------

WATCHDOG = "/run/systemd/system/gitops-mvd.service.d/watchdog.conf"


@pytest.fixture
def impatient(story: Story) -> Iterator[None]:
    """systemd gives the daemon six seconds from one ping to the next."""
    story.run("mkdir", "-p", str(Path(WATCHDOG).parent))
    story.server.put(WATCHDOG, "[Service]\nWatchdogSec=6\n")
    story.run("sh", "-c", f"systemctl daemon-reload && systemctl restart {DAEMON}")
    yield
    story.run("sh", "-c", f"rm {WATCHDOG} && systemctl daemon-reload && systemctl restart {DAEMON}")


def test_a_docker_that_hangs_is_told_in_time_and_the_daemon_outlives_it(
    story: Story, said: Said, impatient: None
) -> None:
    process = story.run("systemctl", "show", "--property=MainPID", DAEMON)
    eventually("that it has begun", lambda: lines(said, "daemon started"))
    story.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGSTOP", "docker.service")
    try:
        eventually("that it is told", lambda: lines(said, "Docker does not answer"), within=100)
        assert "timed out" in lines(said, "Docker does not answer")[0]
        assert story.run("systemctl", "show", "--property=MainPID", DAEMON) == process
    finally:
        story.run("systemctl", "kill", "--kill-whom=main", "--signal=SIGCONT", "docker.service")
    eventually("that it is over", lambda: lines(said, "resolved for=host"))
    assert story.run("systemctl", "show", "--property=MainPID", DAEMON) == process
