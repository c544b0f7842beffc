"""What this host lets the repository do with it: the host has the last word, not Git.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Service

# Keys that reach beyond a container, whatever they say.
REACHING = ("privileged", "cap_add", "devices", "device_cgroup_rules", "security_opt", "cgroup_parent", "runtime")
# Keys that do so where they say `host`.
NAMESPACES = ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")


@dataclass(frozen=True, slots=True)
class Policy:
    """`trusted` apps may do anything; all others may only mount host folders below `mounts`, may not reach out of their
    containers, and may only use images of these `registries`, where any are named."""

    trusted: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()


def enforce(policy: Policy | None, app: App) -> None:
    """Raise StepFailed with all that this host does not let `app` do.  Without a policy, everything is allowed."""
    if policy is None or app.name in policy.trusted:
        return
    if broken := [*_volumes(policy, app), *(why for service in app.services for why in _service(policy, service))]:
        raise StepFailed(f"this host's policy forbids {'; '.join(broken)}", "`policy` in the settings of the host")


def _service(policy: Policy, service: Service) -> Iterator[str]:
    run = service.run
    for key in REACHING:
        if run.get(key):
            yield f"{service.name}: {key}"
    for key in NAMESPACES:
        if run.get(key) == "host":
            yield f"{service.name}: {key}: host"
    for mount in run.get("volumes", ()):
        is_own = mount["source"].startswith("./")  # a folder of the app
        if mount["type"] == "bind" and not is_own and not _is_below(mount["source"], policy.mounts):
            yield f"{service.name}: mounting {mount['source']}"
    if policy.registries and _registry(service.tag or service.image) not in policy.registries:
        yield f"{service.name}: images from {_registry(service.tag or service.image)}"


def _volumes(policy: Policy, app: App) -> Iterator[str]:
    """A volume of the local driver may be a host folder by another name."""
    for name, options in app.volumes.items():
        device: Any = (options.get("driver_opts") or {}).get("device", "")
        if str(device).startswith("/") and not _is_below(device, policy.mounts):
            yield f"volume {name}: mounting {device}"


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


def _registry(image: str) -> str:
    """The registry in a reference, by Docker's rule: the first part, if it looks like a host."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"
