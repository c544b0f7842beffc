"""One service → its container.  Pure.

Every key of a service is honoured here, in `pod`, in another page of this room, or said to be lost: `UNKNOWN` has those
for which Kubernetes has no word, each with what to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from gitops_mvd.core.compose import Run
from gitops_mvd.core.model import Service
from gitops_mvd.exports.environment import environment, literal
from gitops_mvd.exports.names import label
from gitops_mvd.exports.probes import probes
from gitops_mvd.exports.remarks import Body, Remark, lost, remark, without_empty
from gitops_mvd.exports.resources import resources
from gitops_mvd.exports.storage import Mounted

PULL = {"always": "Always", "never": "Never", "missing": "IfNotPresent", "if_not_present": "IfNotPresent"}
DRAIN_SECONDS = 5  # until every proxy has heard that a pod goes: meanwhile it must still answer
MOST_ID = 2**31 - 1
UNKNOWN: Mapping[str, str] = {
    "ulimits": "they are those of the node's container runtime",
    "pids_limit": "it is a setting of the kubelet (`podPidsLimit`)",
    "memswap_limit": "swap is a setting of the node",
    "mem_swappiness": "swap is a setting of the node",
    "oom_kill_disable": "the kubelet decides about it",
    "oom_score_adj": "it follows from requests and limits",
    "cpuset": "the CPU manager of the kubelet gives out processors",
    "cpu_rt_runtime": "real-time scheduling is not known here",
    "cpu_rt_period": "real-time scheduling is not known here",
    "blkio_config": "no limit for disks is known here",
    "device_cgroup_rules": "it takes a device plugin",
    "mac_address": "the network of the cluster gives addresses",
    "domainname": "names are those of the cluster",
    "dns": "servers of a pod's own come after the cluster's: ask for such names through CoreDNS",
    "uts": "a pod has a host name of its own",
    "userns_mode": "see `hostUsers` of a pod",
    "cgroup": "a pod has cgroups of its own",
    "cgroup_parent": "the kubelet makes the cgroups",
    "runtime": "name a RuntimeClass in `runtimeClassName`",
    "storage_opt": "see `resources.limits.ephemeral-storage`",
    "logging": "what a container prints is collected on its node: set up a collector there",
}
ELSEWHERE = frozenset(  # honoured by another page, or by `pod`
    {"annotations", "cpu_period", "cpu_quota", "cpu_shares", "cpus", "devices", "dns_opt", "dns_search", "expose"}
    | {"extra_hosts", "gpus", "group_add", "healthcheck", "hostname", "init", "ipc", "labels", "mem_limit"}
    | {"mem_reservation", "network_mode", "networks", "pid", "platform", "ports", "restart", "shm_size", "sysctls"}
    | {"tmpfs", "volumes", "stop_grace_period"}
)
HERE = frozenset(
    {"cap_add", "cap_drop", "command", "entrypoint", "privileged", "read_only", "security_opt", "stdin_open"}
    | {"stop_signal", "tty", "user", "working_dir"}
)
_SELINUX = ("user", "role", "type", "level")


def container(
    service: Service, mounts: Mounted, secrets: Mapping[str, set[str]], ports: list[Body], is_first: bool
) -> Body:
    """The container of a service, named after it; `is_first`: its program is process 1."""
    run = service.run
    variables, remarks = environment(service, secrets)
    body: Body = dict(remarks)
    for key in sorted(run.keys() & UNKNOWN.keys()):
        if key != "logging" or run["logging"]["driver"]:
            body |= lost(_shown(run, key), UNKNOWN[key])
    body |= {"name": label(service.name), "image": service.tag or service.image}
    body["imagePullPolicy"] = PULL.get(service.pull_policy, "IfNotPresent")
    body |= _words(run)
    body |= {"workingDir": run.get("working_dir", ""), "stdin": run.get("stdin_open"), "tty": run.get("tty")}
    body |= {"env": variables, "ports": ports}
    body |= resources(run)
    body |= mounts.remarks
    body["volumeMounts"] = list(mounts.mounts)
    body |= probes(service)
    body |= _stop(service, is_first)
    body |= security_context(run)
    return without_empty(body)


def _shown(run: Run, key: str) -> str:
    """The key, and its value if that is short and of no secret kind."""
    value = run[key]  # type: ignore[literal-required]
    if key == "ulimits":
        return f"ulimits {', '.join(sorted(value))}"
    if key == "logging":
        return f"logging: {value['driver']}"
    return f"{key}: {value}" if isinstance(value, int | float | str) else key


def _words(run: Run) -> Body:
    """An entrypoint replaces the image's command, too, for the engine and for Kubernetes."""
    body: Body = {}
    if run.get("entrypoint"):
        body["command"] = [literal(word) for word in run["entrypoint"]]
    elif "entrypoint" in run and run.get("command"):  # an empty one takes the image's away
        return {"command": [literal(word) for word in run["command"]]}
    elif "entrypoint" in run:
        body = lost("entrypoint: []", "an image's entrypoint cannot be taken away without a command")
    if run.get("command"):
        body["args"] = [literal(word) for word in run["command"]]
    return body


def drains(service: Service) -> bool:
    """Does it go on answering for a moment, while others learn that it goes?"""
    return bool(service.kong)


def grace(service: Service) -> int:
    """Seconds from the order to stop until the kill; the time of `preStop` is part of it."""
    return math.ceil(service.stop_grace) + (DRAIN_SECONDS if drains(service) else 0)


def _stop(service: Service, is_first: bool) -> Body:
    """What is done before Kubernetes sends SIGTERM."""
    signal = service.run.get("stop_signal", "").upper().removeprefix("SIG")
    if signal in ("", "TERM", "15"):
        return {"lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}} if drains(service) else {}
    if not is_first or not re.fullmatch("[A-Z0-9]+", signal):
        return lost(f"stop_signal: {signal}", "SIGTERM is sent, as the program is not process 1 here")
    first = f"sleep {DRAIN_SECONDS}; " if drains(service) else ""
    script = f"{first}kill -{signal} 1; while kill -0 1 2>/dev/null; do sleep 1; done"
    about = remark(f"{signal} instead of SIGTERM, and until it has ended; the image must have a shell")
    return {"lifecycle": about | {"preStop": {"exec": {"command": ["/bin/sh", "-c", script]}}}}


def security_context(run: Run) -> Body:
    """`securityContext` of the container."""
    remarks, user = _user(run.get("user", ""))
    added = [_capability(name) for name in run.get("cap_add", ())]
    dropped = [_capability(name) for name in run.get("cap_drop", ())]
    context: Body = dict(user)
    context["privileged"] = run.get("privileged")
    context["readOnlyRootFilesystem"] = run.get("read_only")
    context["capabilities"] = without_empty({"add": added, "drop": dropped})
    for option in run.get("security_opt", ()):
        more = _security_option(option)
        if isinstance(inner := more.get("seLinuxOptions"), dict):
            more["seLinuxOptions"] = {**context.get("seLinuxOptions", {}), **inner}
        context |= more
    remarks |= {key: value for key, value in context.items() if isinstance(key, Remark)}
    context = {key: value for key, value in context.items() if not isinstance(key, Remark) and value not in (None, {})}
    context = {key: value for key, value in context.items() if value is not False or key == "allowPrivilegeEscalation"}
    if (context.get("privileged") or "SYS_ADMIN" in added) and "allowPrivilegeEscalation" in context:
        del context["allowPrivilegeEscalation"]
        remarks |= lost("security_opt: no-new-privileges", "it cannot stand beside `privileged` or SYS_ADMIN")
    return remarks | ({"securityContext": context} if context else {})


def _user(written: str) -> tuple[Body, Body]:
    """The user by number; Kubernetes does not look for names in the image."""
    if not written:
        return {}, {}
    user, colon, group = written.partition(":")
    numbers = {"runAsUser": user, "runAsGroup": group} if colon else {"runAsUser": user}
    found: Body = {}
    remarks: Body = {}
    for key, text in numbers.items():
        number = "0" if text == "root" else text
        if number.isascii() and number.isdecimal() and int(number) <= MOST_ID:
            found[key] = int(number)
        elif text or key == "runAsUser":
            remarks |= lost(f"user: {written}", "only a number is taken here: see /etc/passwd of the image")
    if "runAsGroup" in found and "runAsUser" not in found:
        del found["runAsGroup"]
    return remarks, found


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _security_option(option: str) -> Body:
    name, _, value = option.replace(":", "=", 1).partition("=")
    match name, value:
        case "no-new-privileges", "" | "true":
            return {"allowPrivilegeEscalation": False}
        case "no-new-privileges", "false":
            return {}
        case "seccomp", "unconfined":
            return {"seccompProfile": {"type": "Unconfined"}}
        case "apparmor", "unconfined":
            return {"appArmorProfile": {"type": "Unconfined"}}
        case "label", _ if value.replace("=", ":").partition(":")[0] in _SELINUX:
            key, _, what = value.replace("=", ":").partition(":")
            return {"seLinuxOptions": {key: what}}
    return lost(f"security_opt: {name}", "a profile lies on the nodes here: see `securityContext`")
