"""What an app is made of, in one form: from compose-go's JSON of a project, and from gitops-mvd's App.

A form has the services of an app and the options of its networks and volumes, with the keys of `core.compose` that have
a value.  Real names are Compose's (`demo_data`, for networks too), and what is mounted from the repository is content.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gitops_mvd.core.model import App, Service
from tests.oracle.client import Asked

Form = dict[str, Any]

ROOT = "/repository/"
_OWN_NETWORK = re.compile(r"mvd-(.*?)-(.*)-[0-9a-f]{8}")
_PART = re.compile(r"([0-9.]+)(h|ms|m|s|µs|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
_TEXTS_AND_FLAGS = (
    *("user", "working_dir", "hostname", "domainname", "mac_address", "ipc", "pid", "uts", "userns_mode", "cgroup"),
    *("cgroup_parent", "runtime", "platform", "stop_signal", "network_mode", "cpuset", "init", "privileged"),
    *("read_only", "tty", "stdin_open", "oom_kill_disable"),
)
_NUMBERS = (
    *("oom_score_adj", "mem_swappiness", "cpu_shares", "cpu_quota", "cpu_period", "cpu_rt_runtime", "cpu_rt_period"),
    *("pids_limit", "mem_limit", "memswap_limit", "mem_reservation", "shm_size"),
)
_LISTS_AND_OPTIONS = (
    *("cap_add", "cap_drop", "security_opt", "group_add", "dns", "dns_search", "dns_opt", "device_cgroup_rules"),
    *("expose", "annotations", "sysctls", "storage_opt", "labels", "tmpfs", "logging", "command", "entrypoint"),
)
_SETS = ("cap_add", "cap_drop", "dns", "dns_search", "dns_opt", "expose")  # what stands there twice counts once
_TOP = ("driver", "driver_opts", "labels", "external", "internal", "attachable", "enable_ipv6", "ipam")
_DURATIONS = ("interval", "timeout", "start_period", "start_interval")


def of_project(project: Mapping[str, Any], asked: Asked) -> Form:
    """The form of what compose-go read."""
    return {
        "services": {
            name: _composes({**it, "own_name": name}, project, asked) for name, it in project["services"].items()
        },
        "networks": {it["name"]: _top(it) for it in project.get("networks", {}).values() if _top(it)},
        "volumes": {it["name"]: _top(it) for it in project.get("volumes", {}).values() if _top(it)},
    }


def of_app(app: App, asked: Asked) -> Form:
    """The form of what gitops-mvd read."""
    return {
        "services": {service.name: _ours(service, asked) for service in app.services},
        "networks": {_network(name): _top(it) for name, it in app.networks.items() if _top(it)},
        "volumes": {name: _top(it) for name, it in app.volumes.items() if _top(it)},
    }


def _filled(form: Mapping[str, Any]) -> Form:
    """A form without what has no value; an empty command is one."""
    kept = {name: it for name, it in form.items() if it not in (None, "", [], {}, False, 0) or _is_command(name, it)}
    return {name: list(dict.fromkeys(it)) if name in _SETS else it for name, it in kept.items()}


def _is_command(name: str, value: object) -> bool:
    return name in ("command", "entrypoint") and isinstance(value, list)


def _top(options: Mapping[str, Any]) -> Form:
    """The options of a network or volume."""
    ipam = options.get("ipam", {})
    pools = [_filled(pool) for pool in ipam.get("config") or ()]
    return _filled({**{name: options.get(name) for name in _TOP}, "ipam": _filled({**ipam, "config": pools})})


def _composes(service: Mapping[str, Any], project: Mapping[str, Any], asked: Asked) -> Form:
    deploy = service.get("deploy") or {}
    resources = deploy.get("resources") or {}
    limits, reserved = resources.get("limits") or {}, resources.get("reservations") or {}
    devices = [*service.get("gpus", ()), *reserved.get("devices", ())]
    form = {
        **{name: service.get(name) for name in (*_TEXTS_AND_FLAGS, *_LISTS_AND_OPTIONS)},
        **{name: int(service.get(name) or 0) for name in _NUMBERS},
        "image": service.get("image"),
        "environment": {name: it for name, it in service.get("environment", {}).items() if it is not None},
        "extra_hosts": [line.replace("=", ":", 1) for line in service.get("extra_hosts", ())],
        "cpus": round(float(service.get("cpus") or limits.get("cpus") or 0), 5),
        "ports": [_port(port) for port in service.get("ports", ())],
        "mounts": _sorted([*_mounts(service, project, asked), *_grants(service, project, asked)]),
        "networks": _joined(service, project),
        "depends_on": {name: it["condition"] for name, it in service.get("depends_on", {}).items()},
        "replicas": deploy.get("replicas") if deploy.get("replicas") is not None else service.get("scale", 1),
        "stop_grace_period": _seconds(service.get("stop_grace_period", "0s")),
        "ulimits": {name: it if isinstance(it, dict) else _both(it) for name, it in service.get("ulimits", {}).items()},
        "healthcheck": _check(service.get("healthcheck") or {}, _seconds),
        "devices": [_device(it) for it in service.get("devices", ())],
        "gpus": [_gpu(it) for it in devices],
        "blkio_config": _blkio(service.get("blkio_config") or {}),
    }
    for name, limit in (("mem_limit", limits.get("memory")), ("mem_reservation", reserved.get("memory"))):
        form[name] = form[name] or int(limit or 0)
    form["pids_limit"] = form["pids_limit"] or limits.get("pids")
    return _filled(form)


def _ours(service: Service, asked: Asked) -> Form:
    run: Mapping[str, Any] = service.run
    form = {
        **{name: run.get(name) for name in (*_TEXTS_AND_FLAGS, *_LISTS_AND_OPTIONS, *_NUMBERS)},
        "image": service.image,
        "environment": dict(service.environment),
        "extra_hosts": sorted(run.get("extra_hosts", ())),
        "cpus": round(run.get("cpus", 0.0), 5),
        "ports": run.get("ports"),
        "mounts": _sorted(
            [
                *(_mount(mount, mount["source"]) for mount in run.get("volumes", ())),
                *({"target": it.target, "files": dict(it.files)} for it in service.files),
            ]
        ),
        "networks": {
            _network(name): _filled({**it, "aliases": [one for one in it.get("aliases", ()) if one != service.name]})
            for name, it in run.get("networks", {}).items()
        },
        "depends_on": dict(service.depends_on),
        "replicas": service.replicas,
        "stop_grace_period": run.get("stop_grace_period"),
        "ulimits": run.get("ulimits"),
        "healthcheck": _check(run.get("healthcheck", {}), float),
        "devices": run.get("devices"),
        "gpus": [_filled(it) for it in run.get("gpus", ())],
        "blkio_config": run.get("blkio_config"),
    }
    form["logging"] = _filled(form["logging"] or {})
    form["networks"] = {name: it for name, it in form["networks"].items() if it or not name.endswith("_default")}
    return _filled(form)


def _sorted(mounts: list[Form]) -> list[Form]:
    return sorted(mounts, key=lambda it: str(it["target"]))


def _network(name: str) -> str:
    """Compose's name of a network that gitops-mvd names after its content."""
    return _OWN_NETWORK.sub(r"\1_\2", name)


def _joined(service: Mapping[str, Any], project: Mapping[str, Any]) -> Form:
    """The networks of a service with its names there, but for its own; a default network without any is left out.

    The engine knows a container by its name, and Compose another one by the name that a link gives it.
    """
    found: Form = {}
    for network, options in (service.get("networks") or {}).items():
        names = [*(options or {}).get("aliases", ()), service.get("container_name", "")]
        for other in project["services"].values():
            if network in (other.get("networks") or {}):
                links = (link.partition(":") for link in other.get("links", ()))
                names += [alias for target, _, alias in links if target == service["own_name"]]
        aliases = [name for name in dict.fromkeys(names) if name not in ("", service["own_name"])]
        endpoint = _filled({**(options or {}), "aliases": aliases})
        if endpoint or network != "default":
            found[project["networks"][network]["name"]] = endpoint
    return found


def _port(port: Mapping[str, Any]) -> Form:
    """A port in our form; compose-go leaves out what is empty."""
    parts = {"published": "", "host_ip": "", "protocol": "tcp", **port}
    return {name: parts[name] for name in ("target", "published", "host_ip", "protocol")}


def _device(device: Mapping[str, Any]) -> str:
    source = str(device["source"])
    if not source.startswith("/"):
        return source
    return ":".join((source, device.get("target", source), device.get("permissions", "rwm")))


def _gpu(request: Mapping[str, Any]) -> Form:
    """A request for devices; docker compose asks for the capability `gpu` if none is named."""
    count = request.get("count")
    return _filled({"capabilities": ["gpu"], **request, "count": "all" if count == -1 else count})


def _blkio(config: Mapping[str, Any]) -> Form:
    """Limits of block devices, whose parts compose-go writes with capital letters, and sizes as texts."""
    form = dict(config)
    for name, devices in config.items():
        if isinstance(devices, list):
            form[name] = [
                {part.lower(): int(it) if part == "Rate" else it for part, it in one.items()} for one in devices
            ]
    return form


def _both(limit: int) -> Form:
    return {"soft": limit, "hard": limit}


def _check(check: Mapping[str, Any], seconds: Callable[[Any], float]) -> Form:
    if check.get("disable") or check.get("test") == ["NONE"]:
        return {"disable": True}
    times = {name: seconds(check[name]) for name in _DURATIONS if check.get(name)}
    return _filled({"test": check.get("test"), "retries": check.get("retries"), **times})


def _seconds(written: str) -> float:
    """Go's `1m30s`."""
    return round(sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(written)), 9)


def _mounts(service: Mapping[str, Any], project: Mapping[str, Any], asked: Asked) -> Iterator[Form]:
    for mount in service.get("volumes", ()):
        source = str(mount.get("source", ""))
        if mount["type"] == "bind" and source.startswith(ROOT):
            path = source.removeprefix(ROOT)
            content = _content(path, asked)
            folder = "/".join(asked.compose[0].split("/")[:-1])
            made = {"target": posixpath.normpath(mount["target"]), "files": content}
            yield made if content else _mount(mount, f"./{path.removeprefix(folder).strip('/')}")
        else:
            volume = mount["type"] == "volume" and source
            yield _mount(mount, project["volumes"][source]["name"] if volume else source)


def _mount(mount: Mapping[str, Any], source: str) -> Form:
    options = {kind: _filled(mount.get(kind) or {}) for kind in ("bind", "volume", "tmpfs")}
    options["bind"].pop("create_host_path", None)
    if "size" in options["tmpfs"]:
        options["tmpfs"]["size"] = int(options["tmpfs"]["size"])
    return _filled(
        {
            "type": mount["type"],
            "source": source,
            "target": posixpath.normpath(mount["target"]),
            "read_only": mount.get("read_only"),
            **options,
        }
    )


def _content(path: str, asked: Asked) -> Form:
    """The files of the repository at a path, by their names below it."""
    found = {
        name.removeprefix(path).strip("/"): text
        for name, text in asked.files.items()
        if f"{name}/".startswith(f"{path}/")
    }
    return found


def _grants(service: Mapping[str, Any], project: Mapping[str, Any], asked: Asked) -> Iterator[Form]:
    """The files that become of configs and secrets."""
    for section, folder in (("configs", "/"), ("secrets", "/run/secrets/")):
        for grant in service.get(section, ()):
            kept = project[section][grant["source"]]
            target = grant.get("target", grant["source"])
            if "file" in kept:
                text = _content(kept["file"].removeprefix(ROOT), asked)[""]
            else:
                text = kept.get("content") or asked.variables.get(kept.get("environment", ""), "")
            yield {"target": target if target.startswith("/") else folder + target, "files": {"": text}}
