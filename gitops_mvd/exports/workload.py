"""A service → what runs its pods.  Pure.

    schedule                                         CronJob
    must end                                         Job, of a name that its content gives: once for each version
    keeps data, and two may never have it at once    StatefulSet
    all else                                         Deployment

Nothing here goes back by itself: a rollout that fails stands still, with the old pods in service.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gitops_mvd.core.model import Service
from gitops_mvd.exports.names import label, labels, namespace, service_label, workload_label
from gitops_mvd.exports.pod import template
from gitops_mvd.exports.probes import seconds_to_start
from gitops_mvd.exports.remarks import Body, lost, remark
from gitops_mvd.exports.schedule import cron
from gitops_mvd.exports.source import Exported, Source
from gitops_mvd.exports.storage import kept

USUAL_DEADLINE_SECONDS = 600  # `progressDeadlineSeconds` if it is left out
PULL_SECONDS = 60  # that an image may take, beside the start
LONGEST_CRON_JOB = 52
NEVER = "0 0 1 1 *"  # of a CronJob that is suspended


def is_stateful(service: Service) -> bool:
    """Does it keep data that no two of its instances may have at once?"""
    writes = any(not mount["read_only"] for mount in kept(service))
    return writes and service.update.order == "stop-first" and not service.is_job and not service.schedule


def workload(source: Source, one: Exported, secrets: Mapping[str, set[str]], time_zone: str) -> Body:
    """The document of a service that has a pod of its own."""
    service = one.service
    if service.schedule:
        return _cron_job(source, one, secrets, time_zone)
    if service.is_job:
        return _job(source, one, secrets)
    return _stateful_set(source, one, secrets) if is_stateful(service) else _deployment(source, one, secrets)


def _head(version: str, kind: str, source: Source, one: Exported, name: str) -> Body:
    body: Body = {"apiVersion": version, "kind": kind}
    body["metadata"] = {"name": name, "namespace": namespace(source.name), "labels": labels(source.name, one.name)}
    if one.others:
        others, chosen = ", ".join(one.others), one.hosts[0]
        body |= lost(f"{one.name} on {others}", f"it reads otherwise there; this is that of {chosen}: choose by --host")
    if source.suspend:
        body |= lost("suspend", "it is not suspended here")
    return body


def _replicas(one: Exported, stateful: bool) -> Body:
    """As many as all hosts have together that run the very same; data of its own has each host."""
    hosts, each = len(one.hosts), one.service.replicas
    if hosts == 1:
        return {"replicas": each}
    if stateful:
        others = ", ".join(one.hosts[1:])
        return lost(f"{one.name} on {others}", "it has data of its own there: bring it, or export each host") | {
            "replicas": each
        }
    return remark(f"{each} on each of {', '.join(one.hosts)}") | {"replicas": each * hosts}


def _deployment(source: Source, one: Exported, secrets: Mapping[str, set[str]]) -> Body:
    service = one.service
    spec: Body = _replicas(one, stateful=False)
    count = spec["replicas"]
    spec["selector"] = {"matchLabels": labels(source.name, one.name)}
    at_once = service.update.parallelism
    if service.update.order == "start-first":
        surge: int | str = at_once or "100%"
        rolling = {"maxSurge": surge, "maxUnavailable": 0}
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    elif count > at_once > 0:
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": at_once}}
    else:
        spec["strategy"] = {"type": "Recreate"}
    spec |= _times(service)
    spec |= _of_swarm(one)
    spec |= _end(service)
    spec["template"] = template(source, one, secrets, "Always")
    return _head("apps/v1", "Deployment", source, one, workload_label(one.name)) | {"spec": spec}


def _stateful_set(source: Source, one: Exported, secrets: Mapping[str, set[str]]) -> Body:
    service = one.service
    spec: Body = {"serviceName": service_label(one.name)}
    spec |= _replicas(one, stateful=True)
    spec["selector"] = {"matchLabels": labels(source.name, one.name)}
    if service.replicas > 1:
        spec["podManagementPolicy"] = "Parallel"
    times = _times(service)
    times.pop("progressDeadlineSeconds", None)
    spec |= times
    spec |= _of_swarm(one)
    spec |= _end(service)
    spec["template"] = template(source, one, secrets, "Always")
    return _head("apps/v1", "StatefulSet", source, one, workload_label(one.name)) | {"spec": spec}


def _times(service: Service) -> Body:
    """How long a pod must stay healthy to count, and when a rollout has failed."""
    ready = math.ceil(max(service.check.hold, service.update.delay))
    body: Body = {"minReadySeconds": ready} if ready else {}
    needed = seconds_to_start(service.check) + ready + PULL_SECONDS
    if needed > USUAL_DEADLINE_SECONDS:
        body["progressDeadlineSeconds"] = needed
    return body | _by_traffic(service)


def _of_swarm(one: Exported) -> Body:
    """Which nodes of a Swarm its tasks were for: those of a cluster have other labels."""
    body: Body = {}
    for key, value in (one.swarm or {}).items():
        if value and key not in ("replicas", "probed"):
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            body |= lost(f"deploy: {key} of its tasks, {text}", "on a cluster, labels of its own nodes choose them")
    return body


def _by_traffic(service: Service) -> Body:
    """A canary is judged by its pods alone here, as nothing in Kubernetes looks at what a gateway counts."""
    if not service.canary:
        return {}
    steps, judge = ", ".join(f"{it} %" for it in service.canary.steps), service.canary.judge
    bounds = f"errors {judge.errors:.3%}, latency {judge.latency:g}x, min_requests {judge.min_requests}"
    what = f"x-mvd.canary: steps {steps} for {service.canary.lasts:g} s each, judged by {bounds}"
    return lost(what, "pods are replaced as soon as they are ready here; Flagger and Argo Rollouts judge by traffic")


def _end(service: Service) -> Body:
    """A pod of these is always started again: a policy that says otherwise in the manifest is said here."""
    policy = service.run.get("restart", "")
    if policy.startswith("on-failure"):
        return lost(f"restart: {policy}", "it is started again after every end here; one that ends well is a Job")
    return {}


def _job_spec(source: Source, one: Exported, secrets: Mapping[str, set[str]]) -> Body:
    """A job that failed is for somebody to see, unless its policy has it tried again."""
    policy, _, tries = one.service.restart.partition(":")
    again = policy == "on-failure"
    spec: Body = {"backoffLimit": (int(tries) if tries else 6) if again else 0}
    if one.service.replicas > 1:
        spec |= {"completions": one.service.replicas, "parallelism": one.service.replicas}
    spec |= _of_swarm(one)
    spec["template"] = template(source, one, secrets, "OnFailure" if again else "Never")
    return spec


def _job(source: Source, one: Exported, secrets: Mapping[str, set[str]]) -> Body:
    name = label(f"{label(one.name, 50)}-{one.service.digest[:8]}")
    spec: Body = {}
    if len(one.hosts) > 1:
        spec |= lost(f"{one.name} on {', '.join(one.hosts[1:])}", "it is done once here, and not on each host")
    if one.service.check.probe == "completed":
        spec["activeDeadlineSeconds"] = seconds_to_start(one.service.check)
    return _head("batch/v1", "Job", source, one, name) | {"spec": spec | _job_spec(source, one, secrets)}


def _cron_job(source: Source, one: Exported, secrets: Mapping[str, set[str]], time_zone: str) -> Body:
    found = cron(one.service.schedule)
    spec: Body = {}
    if len(one.hosts) > 1:
        spec |= lost(f"{one.name} on {', '.join(one.hosts[1:])}", "it is done once here, and not on each host")
    if not found.fields:
        spec |= lost(f"x-mvd.schedule: {one.service.schedule}", f"cron has no words for {found.why}: choose a time")
        spec["suspend"] = True
    spec["schedule"] = found.fields or NEVER
    if not found.zone and not time_zone:
        spec |= lost("the time zone of the server", "it is not in the repository, and UTC is taken: say --time-zone")
    spec["timeZone"] = found.zone or time_zone or "Etc/UTC"
    spec["concurrencyPolicy"] = "Forbid"
    spec["jobTemplate"] = {"spec": _job_spec(source, one, secrets)}
    return _head("batch/v1", "CronJob", source, one, label(one.name, LONGEST_CRON_JOB)) | {"spec": spec}
