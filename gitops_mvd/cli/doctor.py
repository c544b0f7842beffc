"""All that a server needs, looked at one by one, with what to do about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gitops_mvd.config import settings
from gitops_mvd.config.settings import host_and_port
from gitops_mvd.core.errors import ManifestError, MvdError
from gitops_mvd.daemon.webhook import listen, listens
from gitops_mvd.daemon.wiring import Wired, wire
from gitops_mvd.manifest import read_fleet
from gitops_mvd.state import suspension

DAEMON_JSON = Path("/etc/docker/daemon.json")
ENOUGH_DISK = 2 << 30  # bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """`verdict` is `ok`, `warn` or `fail`; `hint` says what to do."""

    what: str
    verdict: str
    told: str
    hint: str = ""


def examine(config: Path) -> Iterator[Finding]:
    """Every check; one that fails holds up no other, but without settings there is nothing more to ask."""
    try:
        wired = wire(settings.read(str(config), config.read_bytes()), config)
    except (MvdError, OSError, ValueError) as error:
        yield Finding("settings", "fail", str(error), "`mvd docs settings` has every key")
        return
    yield Finding("settings", "ok", str(config))
    for what, check in CHECKS.items():
        try:
            yield from check(wired)
        except MvdError as error:
            yield Finding(what, "fail", error.message, error.hint)


def _docker(wired: Wired) -> Iterator[Finding]:
    info = wired.engine.info()
    yield Finding("docker", "ok", f"{info['ServerVersion']}, {info['Driver']}")
    if not info.get("LiveRestoreEnabled"):
        hint = f'"live-restore": true in {DAEMON_JSON}'
        yield Finding("live-restore", "warn", "is off: every container stops while Docker restarts", hint)
    try:
        proxy = json.loads(DAEMON_JSON.read_text()).get("userland-proxy", True)
    except (OSError, ValueError):
        proxy = True
    if proxy:
        hint = f'"userland-proxy": false in {DAEMON_JSON}'
        yield Finding(
            "userland-proxy", "warn", "is on: with many services a restart of Docker takes seconds longer", hint
        )


def _systemd(wired: Wired) -> Iterator[Finding]:
    units = wired.tools.systemd.units("mvd-*.service")
    yield Finding("systemd", "ok", f"{len(units)} units of ours")
    daemon = wired.tools.systemd.units("gitops-mvd.service").get("gitops-mvd.service")
    if not daemon or daemon[1] != "active":
        yield Finding("daemon", "warn", "does not run", "`mvd install`, then `journalctl -u gitops-mvd`")


def _verify(wired: Wired) -> Iterator[Finding]:
    if verify := wired.settings.verify:
        wired.source.ready()
        yield Finding("verify", "ok", f"{verify.mode}, by {', '.join(verify.files)}")


def _repository(wired: Wired) -> Iterator[Finding]:
    revision = wired.source.fetch()
    yield Finding("repository", "ok", f"{revision.short} {revision.subject}")
    try:
        facts = read_fleet(wired.source.tree(revision)).host(wired.host.name)
    except ManifestError as error:
        yield Finding("fleet.yaml", "fail", str(error), "`host` in the settings, and the hosts in fleet.yaml")
    else:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(facts.labels.items()))
        yield Finding("fleet.yaml", "ok", f"{facts.name}: {labels or 'no labels'}")


def _kong(wired: Wired) -> Iterator[Finding]:
    kong = wired.tools.kong
    if not kong:
        yield Finding("kong", "warn", "is not set up: services with x-kong wait", "`kong` in the settings")
        return
    yield Finding("kong", "ok", f"answers, and has {len(kong.look(wired.host.name))} entities of ours")
    if wired.settings.kong and (path := wired.settings.kong.boot_file):
        fault = kong.boot_file_fault()
        hint = "`journalctl -u gitops-mvd` says why; `mvd install` opens the folder to the daemon"
        yield Finding("boot file", "warn" if fault else "ok", fault or f"{path} has what Kong has", fault and hint)


def _forge(wired: Wired) -> Iterator[Finding]:
    if not wired.forge:
        yield Finding("forge", "warn", "is not set up: no commit statuses are posted", "`forge` in the settings")
        return
    waiting = wired.history.waiting()
    told = f"{waiting} statuses wait to be delivered" if waiting else "every status is delivered"
    counted = [f"{times} {outcome}" for (_, outcome), times in wired.history.deliveries().items()]
    yield Finding("forge", "warn" if waiting else "ok", f"{told}; {', '.join(counted) or 'none so far'}")
    if wired.proposals:
        wired.forge.pull_requests(wired.settings.branch)
        yield Finding("proposals", "ok", "open pull requests can be listed")


def _webhook(wired: Wired) -> Iterator[Finding]:
    if not wired.webhook:  # and the poll does without
        return
    where, at = wired.webhook.listen, host_and_port(wired.webhook.listen)
    try:
        ours = listens(*at)
    except OSError:
        try:
            listen(*at).close()
        except OSError as error:
            yield Finding("webhook", "fail", f"{where} can not be had: {error.strerror}", "`webhook.listen`")
        else:
            yield Finding("webhook", "warn", f"nobody listens at {where}", "`journalctl -u gitops-mvd`")
        return
    if ours:
        yield Finding("webhook", "ok", f"the daemon listens at {where}")
    else:
        yield Finding("webhook", "fail", f"{where} is held by another program", "`webhook.listen` in the settings")


def _suspension(wired: Wired) -> Iterator[Finding]:
    if why := suspension.reason(wired.settings_path):
        yield Finding("suspended", "warn", f"this server stays as it is: {why}", "`mvd resume`")


def _disk(wired: Wired) -> Iterator[Finding]:
    free = shutil.disk_usage(wired.settings.state).free if Path(wired.settings.state).exists() else ENOUGH_DISK
    verdict = "ok" if free >= ENOUGH_DISK else "warn"
    yield Finding("disk", verdict, f"{free / (1 << 30):.1f} GiB free at {wired.settings.state}")


CHECKS: dict[str, Callable[[Wired], Iterator[Finding]]] = {
    "docker": _docker,
    "systemd": _systemd,
    "verify": _verify,
    "repository": _repository,
    "kong": _kong,
    "forge": _forge,
    "webhook": _webhook,
    "suspended": _suspension,
    "disk": _disk,
}
