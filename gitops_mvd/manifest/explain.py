"""How an app is deployed, and why: what follows from several keys of its manifest.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gitops_mvd import probes
from gitops_mvd.core.canary import Canary
from gitops_mvd.core.joins import shared
from gitops_mvd.core.model import App, Service
from gitops_mvd.core.plan import startup_order
from gitops_mvd.core.plan_text import gate_text
from gitops_mvd.manifest.update_order import explained

CONDITIONS = {
    "service_started": "is started",
    "service_healthy": "is healthy",
    "service_completed_successfully": "has completed",
}
LEADS_TO = {
    "rollback": "the whole app goes back to the version that last worked",
    "pause": "everything stays as it is, until something changes or `mvd retry`",
    "continue": "the update goes on, and the commit is red",
}


def explain(app: App) -> dict[str, dict[str, str]]:
    """By service, in the order in which they start: each aspect of its deploy, in a sentence."""
    services = {service.name: service for service in app.services}
    joined_by = {other: service.name for service in app.services for _, other in shared(service.run)}
    return {name: dict(_about(services[name], app.name, joined_by)) for name in startup_order(app.services)}


def notes_of(app: App) -> dict[str, list[str]]:
    """By service, what its file says that is done otherwise than one may expect; under "" what is said of the app."""
    found: dict[str, list[str]] = {}
    for note in app.notes:
        owner = next((it.name for it in app.services if f"{note.key}.".startswith(f"services.{it.name}.")), "")
        found.setdefault(owner, []).append(str(note))
    return found


def _about(service: Service, app: str, joined_by: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if service.schedule:
        yield "runs", f"at {service.schedule}"
        return
    if service.is_job:
        yield "runs", "once per version; not repeated on drift"
    if service.depends_on:
        waits = (f"{name} {CONDITIONS[condition]}" for name, condition in sorted(service.depends_on.items()))
        yield "starts", f"after {', '.join(waits)}"
    yield "order", f"{service.update.order}: {explained(service, joined_by.get(service.name, ''))}"
    if service.replicas > 1:
        yield "instances", f"{service.replicas}, replaced {_turns(service)}"
    if not service.is_job:
        yield "restarts", _restarts(service.restart)
    yield from _joined(service, app)
    yield from _mounted(service)
    yield "gate", gate_text(service.check, probes.summary)
    if service.canary:
        yield "canary", _shares(service.canary)
    if service.kong:
        yield (
            "switch",
            f"in Kong; old instances get {service.stop_grace:g}s to finish open requests",
        )
    yield "on failure", f"{service.update.failure_action}: {LEADS_TO[service.update.failure_action]}"


def _restarts(policy: str) -> str:
    """When systemd starts it again, from a policy in Compose's words."""
    name, _, tries = policy.partition(":")
    if name == "on-failure":
        return f"after an exit code other than 0{f', {tries} times at most' if tries else ''}"
    return "never" if name == "no" else "whenever it ends"


def _joined(service: Service, app: str) -> Iterator[tuple[str, str]]:
    """The names by which others find it, and whose namespaces it shares."""
    names = {name for endpoint in service.endpoints(app).values() for name in endpoint.get("aliases", ())}
    if names:
        yield "found as", ", ".join(sorted(names, key=lambda name: (name != service.name, name)))
    for key, other in shared(service.run):
        yield key, f"that of {other}"


def _mounted(service: Service) -> Iterator[tuple[str, str]]:
    """What is not a volume: the app's folders on the host, and what is mounted from the repository."""
    folders = [mount["source"] for mount in service.run.get("volumes", ()) if mount["source"].startswith("./")]
    if folders:
        yield "folders", f"{', '.join(folders)} of the app on the host, kept like volumes"
    if service.files:
        yield "read-only", f"{', '.join(file.target for file in service.files)}, from the repository"


def _shares(canary: Canary) -> str:
    shares, judge = ", then ".join(f"{share} %" for share in canary.steps), canary.judge
    return (
        f"a new version gets {shares} of the requests, for {canary.lasts:g} s each; it goes back if "
        f"{100 * judge.errors:g} % more of them fail than of the old version's, or take {judge.latency:g} times as long"
    )


def _turns(service: Service) -> str:
    update = service.update
    if service.canary:
        return "all at once, beside the old ones"
    pause = f", each batch watched for {update.delay:g}s" if update.delay else ""
    return f"{update.parallelism} at a time{pause}" if update.parallelism else "all at once"
