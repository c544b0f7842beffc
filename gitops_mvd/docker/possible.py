"""What an engine would find out only as it starts a container, found out before anything stops for it.

Only what is sure to fail is refused, in one sentence that names service, key and what to do; in doubt a container is
let through, and its engine says the rest.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gitops_mvd.core.compose import Endpoint
from gitops_mvd.core.errors import Lacking, MvdError, NotNow, StepFailed
from gitops_mvd.docker.answers import SERVICE
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.devices import SYSTEM, devices_of
from gitops_mvd.docker.types import DeviceRequest, InspectedContainer, ListedNetwork, ListedPool, PathStat

DIRECTORY, LINK = 1 << 31, 1 << 27  # Go's bits of a file mode
EXECUTABLE = 0o111
MAX_LINKS = 10
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OF_THE_KERNEL = ("/proc", "/sys", "/dev")
PLAIN_RUNTIMES = ("", "runc", "crun", "io.containerd.runc.v2")  # others may put programs into a container
APPARMOR = "/sys/kernel/security/apparmor/profiles"
# Of a namespace of the container's own, as runc knows them.
OWN_SYSCTLS = re.compile(
    r"net\..*|fs\.mqueue\..*|kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced|domainname)"
)

FILES_OF_A_PROCESS = Path("/proc/sys/fs/nr_open")  # the most that any process of the host can open

Outside = Callable[..., str]
"""Runs a program on the host, outside of any sandbox, and returns what it prints; "" if that cannot be."""


def refuse_addresses(engine: Engine, service: str, joined: Mapping[str, Endpoint]) -> None:
    """Raise StepFailed for an address that is of no subnet of its network, before a container is made.

    Docker 25 and newer make none with it, and say so without the key.
    """
    for name, endpoint in joined.items():
        asked = {key: address for key in ADDRESS_KEYS.values() if (address := endpoint.get(key))}
        if asked and (network := engine.network(name)):
            for key, address in asked.items():
                _raise_first(service, _of_subnets(f"networks.{name}.{key}", str(address), network))


class Possible:
    """Refuses containers that were created and cannot start."""

    def __init__(self, engine: Engine, outside: Outside, system: Path = SYSTEM) -> None:
        self._engine = engine
        self._outside = outside
        self._system = system

    def refuse(self, container: InspectedContainer) -> None:
        """Raise StepFailed or NotNow for the first thing that its start would fail of, and Unavailable."""
        service = (container["Config"]["Labels"] or {}).get(SERVICE) or container["Name"].lstrip("/")
        _raise_first(service, self._refusals(container))

    def refuse_devices(self, service: str, requests: Sequence[DeviceRequest]) -> None:
        """Raise StepFailed for a device that the host is sure not to have, before a first version is started."""
        if requests and (refused := devices_of(self._engine, self._system).refusal(requests)):
            _raise_first(service, [(refused.key, Lacking, refused.message, refused.hint)])

    def _refusals(self, container: InspectedContainer) -> Iterator[Refusal]:
        if container["HostConfig"].get("Runtime", "") in PLAIN_RUNTIMES:
            yield from _of_sysctls(container)
        yield from _of_ulimits(container)
        yield from self._of_host(container)
        yield from self._of_addresses(container)
        try:
            yield from self._of_image(container)
        except MvdError as error:  # nothing to be seen in it: a mount that does not work now, an engine without a shell
            if "not a directory" in error.message:
                yield (
                    "volumes",
                    StepFailed,
                    f"a folder is mounted at a file, or a file at a folder: {error.message}",
                    "",
                )

    # ---- what the host has -------------------------------------------------------------------------------------------

    def _of_host(self, container: InspectedContainer) -> Iterator[Refusal]:
        host = container["HostConfig"]
        devices = [it["PathOnHost"] for it in host.get("Devices") or () if not host.get("Privileged")]
        if devices:
            for path in self._missing(devices):
                yield "devices", Lacking, f"this host has no {path}", "plug it in, or leave it out"
        requests = host.get("DeviceRequests")
        if requests and (refused := devices_of(self._engine, self._system).refusal(requests)):
            yield refused.key, Lacking, refused.message, refused.hint
        for profile in _apparmor_profiles(container):
            loaded = self._outside("cat", APPARMOR).splitlines()
            if loaded and not any(line.startswith(f"{profile} (") for line in loaded):
                hint = f"load it: apparmor_parser --replace /etc/apparmor.d/{profile}"
                yield "security_opt", Lacking, f"the AppArmor profile {profile} is not loaded on this host", hint

    def _missing(self, paths: Sequence[str]) -> list[str]:
        """The paths that the host does not have, as far as that can be seen."""
        script = 'echo seen; for path; do [ -e "$path" ] || [ -L "$path" ] || echo "$path"; done'
        seen, *missing = self._outside("/bin/sh", "-c", script, "sh", *paths).splitlines() or [""]
        return missing if seen == "seen" else []

    # ---- what its networks have --------------------------------------------------------------------------------------

    def _of_addresses(self, container: InspectedContainer) -> Iterator[Refusal]:
        for name, endpoint in (container["NetworkSettings"]["Networks"] or {}).items():
            for key, address in (endpoint.get("IPAMConfig") or {}).items():
                if key not in ADDRESS_KEYS or not isinstance(address, str) or not address:
                    continue
                if network := self._engine.network(name):
                    yield from _of_address(f"networks.{name}.{ADDRESS_KEYS[key]}", address, network, container)

    # ---- what its image has ------------------------------------------------------------------------------------------

    def _of_image(self, container: InspectedContainer) -> Iterator[Refusal]:
        files = _Files(self._engine, container)
        yield from self._of_user(files, container)
        program = container.get("Path", "")
        host = container["HostConfig"]
        if program and host.get("Runtime", "") in PLAIN_RUNTIMES and not host.get("DeviceRequests"):
            key = "entrypoint" if container["Config"].get("Entrypoint") else "command"
            yield from _of_program(key, program, files, container)

    def _of_user(self, files: _Files, container: InspectedContainer) -> Iterator[Refusal]:
        user, _, group = container["Config"].get("User", "").partition(":")
        hint = "name one that it has, or give a number"
        if user and not user.isdecimal() and not files.has_name("/etc/passwd", user):
            yield "user", StepFailed, f"the image has no user {user}", hint
        groups = [("user", group), *(("group_add", it) for it in container["HostConfig"].get("GroupAdd") or ())]
        for key, name in groups:
            if name and not name.isdecimal() and not files.has_name("/etc/group", name):
                yield key, StepFailed, f"the image has no group {name}", hint


Refusal = tuple[str, type[StepFailed], str, str]
"""The key of the manifest, the error, its message and what to do."""

ADDRESS_KEYS = {"IPv4Address": "ipv4_address", "IPv6Address": "ipv6_address"}


class _Files:
    """The files of a container that has never run; what lies in a mount is not known yet."""

    def __init__(self, engine: Engine, container: InspectedContainer) -> None:
        self._engine = engine
        self._container = container
        mounts = [mount["Destination"] for mount in container.get("Mounts") or ()]
        self._mounts = (*OF_THE_KERNEL, *mounts, *(container["HostConfig"].get("Tmpfs") or ()))

    def has_name(self, path: str, name: str) -> bool:
        """May that file have a line for that name?"""
        if self._is_mounted(path):
            return True
        text = self._engine.text(self._container["Name"].lstrip("/"), path) or ""
        return any(line.partition(":")[0] == name for line in text.splitlines())

    def look(self, path: str) -> PathStat | None:
        """What is at a path, a link followed, at one look; None in doubt.  Raises LookupError for one in a mount."""
        for _ in range(2):
            if self._is_mounted(path):
                raise LookupError(path)
            found = self._engine.stat(self._container["Name"].lstrip("/"), path)
            if not (found and found["linkTarget"]):
                return found
            path = found["linkTarget"]
        return None

    def find(self, path: str) -> PathStat | None:
        """What is at a path, links followed; None if nothing is.  Raises LookupError if that is not known."""
        parts, at, links = [part for part in path.split("/") if part not in ("", ".")], "/", 0
        found: PathStat | None = None
        while parts:
            part = parts.pop(0)
            at = posixpath.normpath(posixpath.join(at, part))
            if self._is_mounted(at):
                raise LookupError(at)
            found = self._engine.stat(self._container["Name"].lstrip("/"), at)
            if found is None:
                return None
            if found["mode"] & LINK:
                links += 1
                if links > MAX_LINKS or not found["linkTarget"]:
                    raise LookupError(at)
                parts, at = [it for it in found["linkTarget"].split("/") if it] + parts, "/"
        return found

    def _is_mounted(self, path: str) -> bool:
        return any(path == mount or path.startswith(f"{mount.rstrip('/')}/") for mount in self._mounts)


def _raise_first(service: str, refusals: Iterable[Refusal]) -> None:
    for key, error, message, hint in refusals:
        refused = error(f"{service}: {key}: {message}", hint)
        refused.service = service
        raise refused


def _of_program(key: str, program: str, files: _Files, container: InspectedContainer) -> Iterator[Refusal]:
    """Is the program there, as the kernel or the search of $PATH would find it?"""
    config = container["Config"]
    if "/" in program:
        paths = [posixpath.join("/", config.get("WorkingDir") or "/", program)]
    else:
        variables = dict(variable.partition("=")[::2] for variable in config.get("Env") or ())
        folders = variables.get("PATH", DEFAULT_PATH).split(":")
        if not all(folder.startswith("/") for folder in folders):
            return
        paths = [posixpath.join(folder, program) for folder in folders]
    try:
        if any(is_program(files.look(path)) for path in paths):
            return
        found = [it for path in paths if (it := files.find(path))]
    except LookupError:
        return
    hint = "correct it, or have it in the image"
    if not found:
        where = program if "/" in program else f"{program} in $PATH"
        yield key, StepFailed, f"the image has no program {where}", hint
    elif not any(map(is_program, found)):
        what = "is a folder" if found[0]["mode"] & DIRECTORY else "cannot be executed: chmod +x it in the image"
        yield key, StepFailed, f"{program} {what}", hint


def is_program(found: PathStat | None) -> bool:
    return bool(found and found["mode"] & EXECUTABLE and not found["mode"] & (DIRECTORY | LINK))


def _of_sysctls(container: InspectedContainer) -> Iterator[Refusal]:
    host = container["HostConfig"]
    for name in host.get("Sysctls") or ():
        dotted = name.replace("/", ".") if "." not in name else name
        if not OWN_SYSCTLS.fullmatch(dotted):
            yield "sysctls", StepFailed, f"{name} is of the whole host", "set it on the host, in /etc/sysctl.d"
        elif dotted.startswith("net.") and host.get("NetworkMode") == "host":
            yield "sysctls", StepFailed, f"{name} cannot be set with network_mode: host", "set it on the host"


def _of_ulimits(container: InspectedContainer) -> Iterator[Refusal]:
    try:
        most = int(FILES_OF_A_PROCESS.read_text())
    except (OSError, ValueError):
        return
    for limit in container["HostConfig"].get("Ulimits") or ():
        if limit["Name"] == "nofile" and limit["Hard"] > most:
            message = f"nofile {limit['Hard']} is above {most}, the most that this host allows"
            yield "ulimits", StepFailed, message, "lower it, or raise fs.nr_open on the host"


def _pools(network: ListedNetwork) -> list[ListedPool]:
    return [pool for pool in network["IPAM"]["Config"] or () if pool.get("Subnet")]


def _of_subnets(key: str, address: str, network: ListedNetwork) -> Iterator[Refusal]:
    try:
        wanted = ipaddress.ip_address(address)
        subnets = [ipaddress.ip_network(pool["Subnet"], strict=False) for pool in _pools(network)]
    except ValueError:  # a driver of somebody else may have addresses of its own
        return
    same = [subnet for subnet in subnets if subnet.version == wanted.version]
    if same and not any(wanted in subnet for subnet in same):
        yield key, StepFailed, f"{address} is not in {', '.join(map(str, same))}", "take an address of the network"


def _of_address(key: str, address: str, network: ListedNetwork, own: InspectedContainer) -> Iterator[Refusal]:
    yield from _of_subnets(key, address, network)
    if any(pool.get("Gateway", "").partition("/")[0] == address for pool in _pools(network)):
        yield key, StepFailed, f"{address} is the gateway of the network", "take another address of it"
    for id, other in (network.get("Containers") or {}).items():
        held = {other["IPv4Address"].partition("/")[0], other["IPv6Address"].partition("/")[0]}
        if address in held and id != own["Id"] and not other["Name"].startswith("mvd-"):
            yield key, NotNow, f"{address} is used by the container {other['Name']}", "stop it, or take another address"


def _apparmor_profiles(container: InspectedContainer) -> list[str]:
    options = (
        option.replace(":", "=", 1).partition("=") for option in container["HostConfig"].get("SecurityOpt") or ()
    )
    return [name for key, _, name in options if key == "apparmor" and name not in ("", "unconfined", "docker-default")]
