"""What is not as it should be, in sentences: on the server, in the statuses, and in what the command says."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import requests

from tests.lab.chaos.commits import App, State
from tests.lab.chaos.ground import DAEMON, FILES, LABEL, STATE, Ground
from tests.lab.command import CommandFailed

KEPT = "/data/kept"  # the file in each volume that must not get lost
UNITS = "/etc/systemd/system"
PASS_SECONDS = 5.0  # in which the daemon has looked again


def differences(ground: Ground, state: State) -> Iterator[str]:
    """Where the server is not equal to what has to run.  Raises CommandFailed while it cannot be asked."""
    wanted = state.running
    instances: dict[str, App] = {}
    counted: Counter[str] = Counter()
    for container in ground.containers():
        name, labels = container["Name"].lstrip("/"), container["Config"]["Labels"]
        app = wanted.get(labels[f"{LABEL}app"])
        if not app:
            yield f"container {name} is left"
            continue
        counted[app.name] += 1
        instances[name] = app
        yield from _of_container(name, labels[f"{LABEL}service"], container, app)
    for app in wanted.values():
        if counted[app.name] != app.replicas:
            yield f"{app.name} has {counted[app.name]} containers, not {app.replicas}"
    yield from _mounted(ground, instances)
    yield from _units(ground, set(instances))
    yield from _leftovers(ground, instances, wanted)
    yield from _routes(ground, wanted)


def _of_container(name: str, service: str, container: Mapping[str, object], app: App) -> Iterator[str]:
    state, config = container["State"], container["Config"]
    assert isinstance(state, dict)
    assert isinstance(config, dict)
    if state["Status"] != "running":
        yield f"container {name} is {state['Status']}"
    if not name.startswith(f"mvd-{app.name}-{app.service}-") or service != app.service:
        yield f"container {name} is of the service {service}, not of {app.service}"
    for said in (f"VERSION={app.version}", f"MARK={app.mark}"):
        if said not in config["Env"]:
            yield f"container {name} runs without {said}"


def _mounted(ground: Ground, instances: Mapping[str, App]) -> Iterator[str]:
    """Where a container does not see the file of Git's that it has to see."""
    look = f"for name in {' '.join(sorted(instances))}; do echo $name $(docker exec $name cat /mark 2>&1); done"
    seen = dict(line.partition(" ")[::2] for line in ground.sh(look).out.splitlines())
    for name, app in sorted(instances.items()):
        if seen.get(name) != str(app.mark):
            yield f"container {name} sees {seen.get(name)!r} in its file, not {app.mark}"


def _units(ground: Ground, instances: set[str]) -> Iterator[str]:
    listed = ground.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "mvd-*.service").splitlines()
    active = {line.split()[0].removesuffix(".service"): line.split()[2:4] for line in listed}
    files = ground.run("systemctl", "list-unit-files", "--plain", "--no-legend", "mvd-*.service").splitlines()
    enabled = {line.split()[0].removesuffix(".service"): line.split()[1] for line in files}
    for name in sorted(instances):
        if active.get(name) != ["active", "running"]:
            yield f"unit {name} is {' '.join(active.get(name, ['not there']))}"
        if enabled.get(name) != "enabled":
            yield f"unit {name} is {enabled.get(name, 'without a file')}"
    for name in sorted(enabled.keys() - instances):
        yield f"unit file {name} is left"


def _leftovers(ground: Ground, instances: Mapping[str, App], wanted: Mapping[str, App]) -> Iterator[str]:
    folders = ground.run(
        "find", FILES, "-mindepth", "1", "-maxdepth", "1", "-name", "mvd-*", "-printf", "%f\\n"
    ).split()
    needed = {"-".join(name.split("-")[:4]) for name in instances}
    for name in sorted(set(folders) ^ needed):
        yield f"folder {FILES}/{name} is {'left' if name in folders else 'not there'}"
    label = f"label={LABEL}app"
    networks = ground.run(
        "docker", "network", "ls", "--filter", label, "--format", '{{.Label "' + f"{LABEL}app" + '"}}'
    )
    for app in sorted(set(networks.split()) - wanted.keys()):
        yield f"a network of {app} is left"
    if left := ground.run("find", "/etc/gitops-mvd", UNITS, "-name", "*.new").split():
        yield f"half a file is left: {', '.join(left)}"


def _routes(ground: Ground, wanted: Mapping[str, App]) -> Iterator[str]:
    try:
        with requests.Session() as session:
            session.trust_env = False
            listed = session.get(f"http://{ground.ip}:8001/routes?size=1000", timeout=5).json()["data"]
    except (requests.RequestException, ValueError, KeyError) as error:
        yield f"Kong does not list its routes: {error}"
        return
    apps = [tag.removeprefix("app:") for route in listed for tag in route["tags"] or () if tag.startswith("app:")]
    if Counter(apps) != Counter(wanted.keys()):
        yield f"Kong has routes of {sorted(apps)}, not of {sorted(wanted)}"
    for app in wanted.values():
        try:
            said = ground.stage.ask(app.path).text.strip()
        except requests.RequestException as error:
            said = str(error)
        if said != app.answer:
            yield f"{app.path} of {app.name} answers {said[:120]!r}, not {app.answer!r}"
        if app.published and (said := _at_port(ground, app.published)) != app.answer:
            yield f"port {app.published} of {app.name} answers {said[:120]!r}, not {app.answer!r}"


def _at_port(ground: Ground, port: int) -> str:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(f"http://{ground.ip}:{port}/", timeout=5).text.strip()
        except requests.RequestException as error:
            return str(error)


def statuses(ground: Ground, commits: Mapping[str, bool]) -> Iterator[str]:
    """Where a status is not the true end of its commit: `commits` are those of a round, and whether each is good."""
    *_, tip = commits
    for sha, is_good in commits.items():
        told = ground.stage.told(sha)
        last, why = told[-1] if told else ("", "")
        if sha == tip and last != ("success" if is_good else "failure"):
            yield f"{sha[:7]} ends as {last or 'nothing'}, not as {'success' if is_good else 'failure'}: {why}"
        elif last == "pending" or (last == "success" and not is_good) or (last == "failure" and is_good):
            yield f"{sha[:7]}, which is {'good' if is_good else 'bad'}, ends as {last}: {why}"


def commands(ground: Ground, state: State) -> Iterator[str]:
    """What the command says, and how the daemon is."""
    for word, codes in (("status", {0} if state.is_green else {1}), ("doctor", {0, 1}), ("plan", {0, 1})):
        for pause in (PASS_SECONDS, 0.0):
            wrong = _said_wrong(ground, word, codes)
            if not wrong or "Traceback" in wrong:
                break
            time.sleep(pause)  # it may be the first that reads what is damaged, and the next pass mends that
        if wrong:
            yield wrong
    if ground.sh(f"systemctl is-active {DAEMON}").out.strip() != "active":
        yield "the daemon does not run"


def _said_wrong(ground: Ground, word: str, codes: Collection[int]) -> str:
    try:
        said = ground.stage.server.exec("mvd", word, check=False, timeout=60)
    except CommandFailed as error:
        return f"mvd {word}: {error.why}"
    if said.code in codes and "Traceback" not in said.err:
        return ""
    return f"mvd {word} ends with {said.code}: {(said.out + said.err).strip()[-600:]}"


def stacks(ground: Ground, since: str) -> list[str]:
    """The lines of the daemon with a stack since then (a cursor of the journal)."""
    said = ground.sh(f"journalctl --unit {DAEMON} --output=cat --no-pager --after-cursor='{since}'").out
    return [part.strip()[:1500] for part in said.split("Traceback")[1:]]


def cursor(ground: Ground) -> str:
    return ground.sh("journalctl --lines=0 --show-cursor").out.rpartition("-- cursor: ")[2].strip()


def plant(ground: Ground, state: State) -> set[str]:
    """Leave a file in the volume of each app that runs; returns the names of the volumes."""
    for app in state.running.values():
        for name in ground.names(app)[:1]:
            ground.run("docker", "exec", name, "sh", "-c", f"echo {app.volume} > {KEPT}")
    return {app.volume for app in state.running.values()}


def losses(ground: Ground, state: State, planted: Collection[str]) -> Iterator[str]:
    """Which of these volumes have lost their file."""
    for app in state.running.values():
        for name in ground.names(app) if app.volume in planted else ():
            with contextlib.suppress(CommandFailed):
                said = ground.run("docker", "exec", name, "sh", "-c", f"cat {KEPT}; true").strip()
                if said != app.volume:
                    yield f"{app.name} does not see in {app.volume} what was in it, but {said!r}"


def sizes(ground: Ground) -> str:
    """How full the small disks are, for the story."""
    return ground.sh(f"df --output=pcent,ipcent {STATE} {FILES} | tail -n +2 | tr -s ' \\n' ' '").out.strip()
