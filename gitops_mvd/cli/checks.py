"""The checks of `mvd doctor`: everything that a server needs, one after another, with what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gitops_mvd.cli import machine
from gitops_mvd.cli.finding import Finding
from gitops_mvd.cli.host_text import thread_text
from gitops_mvd.cli.output import counted, when
from gitops_mvd.cli.server import connect
from gitops_mvd.config.settings.section import host_and_port
from gitops_mvd.core.errors import ManifestError, MvdError, Unavailable
from gitops_mvd.core.model import CommitStatus, Health, Operation

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired


def examine(config: Path) -> Iterator[Finding]:
    """The findings of every check.  A check that fails holds up no other; without settings there is only one."""
    try:
        wired = connect(config)
    except ManifestError as error:
        for problem in error.problems:
            yield Finding("settings", "fail", str(problem), "Every key: mvd docs settings")
        return
    except MvdError as error:
        yield Finding("settings", "fail", error.message, error.hint)
        return
    yield Finding("settings", "ok", str(config))
    for what, check in CHECKS.items():
        try:
            yield from check(wired)
        except MvdError as error:
            yield Finding(what, "fail", error.message, error.hint)
    wired.close()


def _docker(wired: Wired) -> Iterator[Finding]:
    info = wired.engine.info()
    yield Finding("docker", "ok", f"{info['ServerVersion']}, {info['Driver']}")
    told = machine.engine_settings()
    if info.get("Swarm", {}).get("LocalNodeState", "inactive") != "inactive":
        if told.get("live-restore"):
            hint = f'Remove "live-restore" from {machine.DAEMON_JSON}'
            yield Finding("live-restore", "fail", "on: as a member of a Swarm, Docker cannot start again", hint)
    elif not info.get("LiveRestoreEnabled"):
        hint = f'Set "live-restore": true in {machine.DAEMON_JSON}'
        yield Finding("live-restore", "warn", "off: every container stops while Docker restarts", hint)
    if told.get("userland-proxy", True) and told.get("iptables", True):  # without rules, nothing else publishes ports
        hint = f'Set "userland-proxy": false in {machine.DAEMON_JSON}'
        yield Finding("userland-proxy", "warn", "on: with many services a restart of Docker takes seconds longer", hint)


def _engine(wired: Wired) -> Iterator[Finding]:
    from gitops_mvd.docker.fit import client

    wired.fit.require()
    yield Finding("engine", "ok", f"Docker Engine, reached by {client()}")
    found = wired.tools.systemd.units("docker.service").get("docker.service")
    if not found or found.active != "active":
        message = f"what answers at {wired.engine.url} is not docker.service: its restarts are not told from failures"
        yield Finding("engine", "warn", message, "Have docker.service run it: systemctl status docker")


def _swarm(wired: Wired) -> Iterator[Finding]:
    if not (manager := wired.manager):
        return
    leader, nodes = manager.leader(), manager.nodes()
    managers = [node for node in nodes if "ManagerStatus" in node]
    led_by = f"led by {leader}, whose daemon acts" if leader else "led by this server, whose daemon acts"
    yield Finding("swarm", "ok", f"{counted(len(nodes), 'node')}, {counted(len(managers), 'manager')}, {led_by}")
    for node in nodes:
        if node["Status"]["State"] != "ready":
            hint = "What it ran is made elsewhere: docker node ls"
            yield Finding("swarm", "warn", f"the node {node['Description']['Hostname']} is not there", hint)
    if len(managers) == 2:
        message = "of 2 managers none may be lost: the Swarm could not be changed any more"
        yield Finding("swarm", "warn", message, "Have 3: docker node promote NODE")


def _systemd(wired: Wired) -> Iterator[Finding]:
    units = wired.tools.systemd.units("mvd-*.service")
    yield Finding("systemd", "ok", counted(len(units), "managed unit"))
    daemon = wired.tools.systemd.units("gitops-mvd.service").get("gitops-mvd.service")
    if not daemon or daemon[1] != "active":
        yield Finding("daemon", "warn", "not running", "Start it: mvd install. Why it ended: journalctl -u gitops-mvd")


def _by_hand(wired: Wired) -> Iterator[Finding]:
    from gitops_mvd.core.specs import OVERRIDDEN
    from gitops_mvd.docker.ownership import name_of, strangers

    try:
        wired.host.refresh()
    except Unavailable:  # the checks of Docker and systemd say why
        return
    for resource in wired.host.overrides():
        message = f"{resource.kind} {resource.name}: {resource.spec[OVERRIDDEN]}"
        yield Finding("by hand", "warn", message, "What is done about it: mvd docs operations")
    for container in strangers(wired.engine.containers()):
        message = f"container {name_of(container)} has labels of gitops-mvd, but not the name that goes with them"
        yield Finding("by hand", "warn", message, "It is left alone: rename it back, or remove it")


def _threads(wired: Wired) -> Iterator[Finding]:
    from gitops_mvd.state.lock import daemon_runs

    if not daemon_runs(Path(wired.settings.state)):
        return
    for state in wired.history.threads():
        if state.is_news(time.time()):
            verdict, hint = "warn" if state.is_up else "fail", "The log has more: journalctl -u gitops-mvd"
            yield Finding("threads", verdict, f"{state.name} {thread_text(state, time.time())}", hint)


def _verify(wired: Wired) -> Iterator[Finding]:
    if verify := wired.settings.verify:
        wired.source.ready()
        yield Finding("verify", "ok", f"{verify.mode}, by {', '.join(verify.files)}")


def _repository(wired: Wired) -> Iterator[Finding]:
    from gitops_mvd.manifest import read_fleet

    revision = wired.source.fetch()
    yield Finding("repository", "ok", f"{revision.short} {revision.subject}")
    try:
        facts = read_fleet(wired.source.tree(revision)).host(wired.host.name, wired.manager is not None)
    except ManifestError as error:
        yield Finding("fleet.yaml", "fail", str(error), "Compare `host` in the settings with `hosts` in fleet.yaml")
    else:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(facts.labels.items()))
        yield Finding("fleet.yaml", "ok", f"{facts.name}: {labels or 'no labels'}")


def _kong(wired: Wired) -> Iterator[Finding]:
    kong = wired.tools.kong
    if not kong:
        yield Finding("kong", "warn", "not set up: services with x-kong wait", f"Set `kong` in the settings. {AS_APP}")
        return
    try:
        managed = counted(len(kong.observe(wired.host.name)), "managed entity", "managed entities")
    except Unavailable as error:
        yield Finding("kong", "fail", error.message, error.hint or NO_KONG)
        return
    yield Finding("kong", "ok", f"answers; {managed}")
    for cost in kong.costs():
        yield Finding("kong pace", "ok", cost)
    kong.require_writable()
    if wired.settings.kong and (path := wired.settings.kong.boot_file):
        fault = kong.start_file_fault()
        hint = "Why: journalctl -u gitops-mvd. `mvd install` lets the daemon write to the folder"
        yield Finding("boot file", "warn" if fault else "ok", fault or f"{path} is up to date", fault and hint)


def _forge(wired: Wired) -> Iterator[Finding]:
    if not wired.forge or not wired.settings.forge:
        yield Finding("forge", "warn", "not set up: no commit statuses are sent", "Set `forge` in the settings")
        return
    waiting = wired.history.count_waiting()
    times: dict[str, int] = {}
    for (_, outcome), number in wired.history.deliveries().items():
        times[outcome] = times.get(outcome, 0) + number
    sent, rejected = times.get("posted", 0), times.get("refused", 0)
    message = f"statuses: {sent} sent, {waiting} waiting, {rejected} rejected by {wired.settings.forge.kind}"
    hint = "Why: journalctl -u gitops-mvd" if waiting or rejected else ""
    yield Finding("forge", "warn" if waiting else "ok", message, hint)
    if wired.pull_requests:
        wired.forge.pull_requests(wired.settings.branch)
        yield Finding("proposals", "ok", "can list open pull requests")


def _token(wired: Wired) -> Iterator[Finding]:
    """A status for a commit that does not exist: refused before or after the token is, and nothing is left of it."""
    from gitops_mvd.forges.api import UnknownCommit

    if not (wired.forge and (forge := wired.settings.forge)):
        return
    environment = wired.host.name if forge.environment else ""
    status = CommitStatus(f"mvd/{wired.host.name}", Operation.RUNNING, Health.UNKNOWN, "a trial", "", environment)
    with suppress(UnknownCommit):
        wired.forge.publish(NO_COMMIT, status)
    yield Finding("token", "ok", f"may post statuses to {forge.repository}, tried with a commit that does not exist")


def _notify(wired: Wired) -> Iterator[Finding]:
    from gitops_mvd.daemon.connections import read_secret

    for receiver in wired.notifier.receivers:
        state = receiver.state()
        try:
            read_secret(receiver.settings.url_file, f"notify.{state.name}.url_file")
        except MvdError as error:
            yield Finding("notify", "fail", f"{state.name}: {error.message}", error.hint)
            continue
        if state.failing_since is None:
            waiting = f", {counted(state.waiting, 'notice')} waiting" if state.waiting else ""
            yield Finding("notify", "ok", f"{state.name}: {counted(state.sent, 'message')} sent{waiting}")
            continue
        since = f"failing since {when(state.failing_since, time.time())} ({counted(state.failures, 'attempt')})"
        waiting = f"{counted(state.waiting, 'notice')} waiting, {state.dropped} dropped"
        hint = f"Try it: mvd notify --test {state.name}"
        yield Finding("notify", "warn", f"{state.name}: {since}: {state.why}; {waiting}", hint)


def _webhook(wired: Wired) -> Iterator[Finding]:
    from gitops_mvd.daemon.small_server import listen, other_port
    from gitops_mvd.daemon.webhook import SETTING, listens

    if not wired.webhook:  # the poll does without
        return
    where, at = wired.webhook.listen, host_and_port(wired.webhook.listen)
    try:
        is_daemon = listens(*at)
    except OSError:
        try:
            listen(*at).close()
        except OSError as error:
            yield Finding("webhook", "fail", f"cannot listen at {where}: {error.strerror}", other_port(SETTING))
        else:
            yield Finding("webhook", "warn", f"nothing listens at {where}", "Why: journalctl -u gitops-mvd")
        return
    if is_daemon:
        yield Finding("webhook", "ok", f"the daemon listens at {where}")
    else:
        yield Finding("webhook", "fail", f"another program listens at {where}", other_port(SETTING))


def _suspension(wired: Wired) -> Iterator[Finding]:
    from gitops_mvd.state import suspension

    found = suspension.suspended(wired.settings_path)
    if found.host:
        told = f"nothing is changed here: {found.host.text}"
        yield Finding("suspended", "warn", told, "Allow changes again: mvd resume")
    for app, one in found.apps.items():
        yield Finding("suspended", "warn", f"{app}: {one.text}", f"Allow changes again: mvd resume {app}")


NO_COMMIT = "0" * 40
AS_APP = "To have one as an app: mvd init NEW --kong app, and copy its apps/kong"
NO_KONG = f"If it is an app of the repository, the first deploy starts it. {AS_APP}"
CHECKS: dict[str, Callable[[Wired], Iterator[Finding]]] = {
    "programs": machine.programs,
    "docker": _docker,
    "engine": _engine,
    "swarm": _swarm,
    "systemd": _systemd,
    "by hand": _by_hand,
    "threads": _threads,
    "verify": _verify,
    "secrets": machine.secrets,
    "clock": machine.clock,
    "network": machine.network,
    "repository": _repository,
    "kong": _kong,
    "kong proxy": machine.gateway_port,
    "forge": _forge,
    "token": _token,
    "notify": _notify,
    "webhook": _webhook,
    "suspended": _suspension,
    "disk": machine.disks,
}
