"""When a container counts as healthy → its startup and readiness probes.  Pure.

What a service must do before anything relies on it is the startup probe; what is asked from then on decides whether it
gets requests, which is readiness.  There is no liveness probe: here as there, nobody restarts what answers badly.
"""

from __future__ import annotations

import math
from typing import Any

from gitops_mvd.core.compose import Healthcheck
from gitops_mvd.core.model import Check, Service
from gitops_mvd.exports.remarks import Body, lost
from gitops_mvd.probes import TRY_SECONDS

READY_EVERY_SECONDS = 10  # Kubernetes' own default; a probe of ours is asked about once a minute after the deploy
READY_FAILURES = 3
DOCKER_INTERVAL, DOCKER_TIMEOUT, DOCKER_START_INTERVAL, DOCKER_RETRIES = 30.0, 30.0, 5.0, 3  # the engine's defaults
_NO_PROBE = {"running", "not_failed", "systemd", "completed", "scheduled"}  # Kubernetes sees these by itself
INSTEAD = {
    "log": "no probe reads a log: let the program write a file or listen on a port once it works, and ask for that",
    "heartbeat": "no probe sees the age of a file; if the image has `find`, an exec probe can: "
    '[sh, -c, \'test -n "$(find FILE -newermt "-300 seconds")"\']',
    "kafka": "no probe asks Kafka: watch the lag of the consumer group by an alert, or scale by it with KEDA",
}


def probes(service: Service) -> Body:
    """`startupProbe` and `readinessProbe` of its container, and what they do not ask."""
    check, test = service.check, service.run.get("healthcheck", {})
    remarks: Body = {}
    if test.get("test") and check.probe not in ("docker", "completed", "scheduled"):
        remarks = lost("healthcheck", "a container has one readiness probe, and `x-mvd.health` is it")
    if check.probe in _NO_PROBE:
        return remarks
    if check.probe == "docker":
        return remarks | _of_healthcheck(check, test)
    handler, missed = _handler(check)
    for what, why in missed.items():
        remarks |= lost(f"x-mvd.health.{what}", why)
    if not handler:
        return remarks
    timeout = math.ceil(check.spec.get("timeout", TRY_SECONDS))
    every = math.ceil(check.interval)
    return remarks | _probes(handler, check, every or 1, every or READY_EVERY_SECONDS, timeout, READY_FAILURES)


def seconds_to_start(check: Check) -> int:
    """How long a container may take to become healthy."""
    return math.ceil(check.start_period + check.within)


def _probes(handler: Body, check: Check, first: int, every: int, timeout: int, failures: int) -> Body:
    startup: Body = {**handler, "periodSeconds": first, "timeoutSeconds": timeout}
    startup["failureThreshold"] = max(1, math.ceil(seconds_to_start(check) / first))
    readiness: Body = {**handler, "periodSeconds": every, "timeoutSeconds": timeout}
    if check.successes > 1:
        readiness["successThreshold"] = check.successes
    readiness["failureThreshold"] = failures
    return {"startupProbe": startup, "readinessProbe": readiness}


def _handler(check: Check) -> tuple[Body, dict[str, str]]:
    """What a probe does, empty if none does that, and which of its options it lacks."""
    spec = check.spec
    missed: dict[str, str] = {}
    match check.probe:
        case "http":
            if not _as_kubelet(spec.get("status")):
                missed["status"] = "a probe counts 200 to 399 as healthy"
            for option in ("body", "header"):
                if option in spec:
                    missed[option] = "a probe only sees the status: let the path itself answer with another one"
            return {"httpGet": {"path": spec["path"], "port": spec["port"], "scheme": "HTTP"}}, missed
        case "tcp":
            return {"tcpSocket": {"port": spec["port"]}}, missed
        case "grpc":
            asked: Body = {"port": spec["port"]} | ({"service": spec["service"]} if spec.get("service") else {})
            return {"grpc": asked}, missed
        case "exec":
            return {"exec": {"command": list(spec["command"])}}, missed
        case other:
            return {}, {other: INSTEAD.get(other, "no probe does that")}


def _as_kubelet(statuses: Any) -> bool:
    """Are these the statuses that count for Kubernetes?  Ours are all below 400, if none are listed."""
    return statuses is None or {*statuses} == {*range(200, 400)}


def _of_healthcheck(check: Check, test: Healthcheck) -> Body:
    words = list(test.get("test", ()))
    if test.get("disable") or not words or words[0] == "NONE":
        return lost("x-mvd.health.docker", "the HEALTHCHECK of an image is not used: name a probe, such as `http`")
    command = ["/bin/sh", "-c", *words[1:]] if words[0] == "CMD-SHELL" else words[1:]
    every = math.ceil(test.get("interval", 0) or DOCKER_INTERVAL)
    first = math.ceil(test.get("start_interval", 0) or min(DOCKER_START_INTERVAL, every))
    timeout = math.ceil(test.get("timeout", 0) or DOCKER_TIMEOUT)
    failures = test.get("retries", 0) or DOCKER_RETRIES
    return _probes({"exec": {"command": command}}, check, first, every, timeout, failures)
