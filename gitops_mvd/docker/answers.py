"""Docker's answers read: what an error means, the parts of a reference, a container as an Instance.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gitops_mvd.core import compose
from gitops_mvd.core.errors import INTERNAL, Lacking, MvdError, NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import LABEL, Instance, Published
from gitops_mvd.core.text import cause, first_words
from gitops_mvd.docker.types import InspectedContainer, ListedContainer, ListedImage, ListedNetwork

APP, SERVICE, DIGEST = f"{LABEL}app", f"{LABEL}service", f"{LABEL}digest"
NEVER = "0001-01-01T00:00:00Z"
LONGEST_LINE = 1 << 20  # bytes of a JSON value in a stream of them
LONGEST_MESSAGE = 10_000  # characters

# ---- what Docker's errors mean ---------------------------------------------------------------------------------------

MAKE_ROOM = "the disk is full: make room, the next pass goes on"
LOG_IN = "the registry refused the login: `docker login`, or `registries` in the settings"
REPORT = "this is a defect of gitops-mvd: please report it"
# What the manifest has wrong, what only the surroundings have against it, and what is a defect of our own.  The status
# says little: a registry that refuses a login comes as 401 or 500, and inside a pull without any.
MEANINGS: Sequence[tuple[re.Pattern[str], type[MvdError], str]] = [
    (re.compile(pattern, re.IGNORECASE), meaning, hint)
    for pattern, meaning, hint in (
        ("no basic auth credentials", Unavailable, LOG_IN),  # said of a repository that may as well not exist, too
        (
            "requested access to the resource is denied|pull access denied|^(error from registry: )?denied( denied)?$",
            StepFailed,
            "there is no such repository, or it needs a `docker login`",
        ),
        (
            "unauthorized|authentication required|incorrect username or password|(?<!permission )denied:",
            Unavailable,
            LOG_IN,
        ),
        (
            "network .* is ambiguous",
            NotNow,
            "it exists twice: see `docker network ls`, and remove the other one by its id",
        ),
        (
            "manifest unknown|name unknown|manifest for .* not found|failed to resolve reference .*: not found$",
            StepFailed,
            "there is no such image",
        ),
        (
            "no matching manifest|no match for platform|does not match the specified platform",
            StepFailed,
            "the image is not made for this platform",
        ),
        (
            r"netip\.Parse|does not belong to any of this network|no configured subnet"
            "|networks with user configured subnets|invalid subnet|invalid CIDR|allocate gateway"
            "|address is out of range"
            "|is not a directory$|executable file not found|not in a separate kernel namespace",
            StepFailed,
            "",
        ),
        (
            "could not find an available, non-overlapping|predefined address pools have been fully subnetted",
            NotNow,
            "give the engine more `default-address-pools` in /etc/docker/daemon.json",
        ),
        ("no available IP|address pools? .*exhausted", NotNow, "give the network a larger subnet"),
        (
            "pool overlaps with other one|networks have overlapping|conflicts with network|networks have same bridge",
            NotNow,
            "another network has it: see docker network ls",
        ),
        (
            "port is already allocated|bind: address already in use|failed to bind (host )?port",
            NotNow,
            "free the port, or publish another one",
        ),
        ("cannot assign requested address", NotNow, "this host does not have that address: see ip address"),
        ("address already in use", NotNow, "another container has it: see docker network inspect"),
        ("no space left on device|disk quota exceeded|not enough free space", NotNow, MAKE_ROOM),
        ("too many open files|too many levels of|exchange full", NotNow, "see the limits of docker.service"),
        (
            "cannot allocate memory|resource temporarily unavailable|cannot fork|no child processes",
            NotNow,
            "this host has no memory or no processes left",
        ),
        ("xtables lock|no chain/target/match by that name", NotNow, "systemctl restart docker makes its rules anew"),
        ("toomanyrequests|too many requests|rate limit", NotNow, "the registry wants fewer requests: log in to it"),
        (
            r"\b(get|head|post) \"?https?://|unexpected (http )?status|failed to (do request|copy)|httpReadSeeker"
            "|error pulling image configuration|lookup .*: (no such host|server misbehaving)|i/o timeout"
            "|tls handshake timeout|no route to host|network is unreachable",
            NotNow,
            "",
        ),
        (
            "could not select device driver|CDI device injection failed|failed to discover GPU vendor",
            Lacking,
            "install what the devices need, such as the NVIDIA Container Toolkit",
        ),
        ("can ?not be set, as your kernel does not support", Lacking, "see what it lacks: docker info"),
        ("gathering device information", Lacking, "plug it in, or take it out of `devices`"),
        ("bind source path does not exist", Lacking, "make it, or take it out of `volumes`"),
        ("initialize logging driver: .*(dial|connect)", NotNow, "nothing takes the log there"),
        (  # what an engine or its containerd has of an earlier start, or says as it goes down and comes back
            r"transaction .*is destructive|\bid already in use|ttrpc: closed|transport is closing"
            "|shim .*(exited|closed)|grpc: |containerd.*(connection refused|not running)"
            "|failed to (start|create) shim: (context|id|mkdir .*file exists)",
            NotNow,
            "the engine is not itself: systemctl status docker containerd",
        ),
        (
            "already in use by container|already exists$|has active endpoints|volume is in use|is being used by"
            "|device or resource busy|name conflicts with an existing object"
            "|is in use by (the following |)(service|task)",  # of a Swarm
            NotNow,
            "",
        ),
        ("swarm is not active", NotNow, "that node has just come back: see docker node ls"),
        (r"no such (image|container|network)|network \S+ not found", NotNow, "somebody has removed it"),
        ("client version .* is too (new|old)", Unavailable, ""),  # the engine was exchanged
        (
            "^(json: |invalid json|invalid character .* looking|unexpected EOF$|page not found|method not allowed"
            "|unsupported content-type)",
            StepFailed,
            REPORT,
        ),
    )
]


def verdict(status: int, text: str, what: str) -> MvdError:
    """What an error of the engine means: by its text, else by its status."""
    text = _shown(text)
    if found := _meaning_of(text):
        meaning, hint = found
    else:
        refused = 400 <= status < 500 and status not in (401, 408, 429)
        meaning, hint = StepFailed if refused else Unavailable, ""
    defect = f"{INTERNAL}: " if hint == REPORT else ""
    return meaning(f"{defect}could not {what}: {text}", hint)


def refused_start(service: str, text: str) -> StepFailed:
    """Why a container of a service was not started, by what the engine or its client said."""
    meaning, hint = _meaning_of(_shown(text)) or (StepFailed, "")
    if not issubclass(meaning, StepFailed):
        meaning, hint = StepFailed, ""
    refused = meaning(f"{service}: {did_not_start(text)}", hint)
    refused.service = service
    return refused


def did_not_start(text: str) -> str:
    """`did not start: Bind for 0.0.0.0:80 failed: ...`, of what the engine said."""
    return f"did not start: {_shown(text)}"


def _meaning_of(text: str) -> tuple[type[MvdError], str] | None:
    return next(((meaning, hint) for pattern, meaning, hint in MEANINGS if pattern.search(text)), None)


def _shown(text: str) -> str:
    """What an engine said, fit to be shown: in one line, the cause in front, and without a secret."""
    text = first_words(text) if re.match(r"\s*<", text) else text[:LONGEST_MESSAGE]  # a page is not the engine's
    text = re.sub(r"(https?://[^\s\"?]*)\?[^\s\"]*", r"\1", " ".join(text.split()))  # signed addresses are secrets
    text = re.sub(r"(?<=[\d\]]):\d+->", "->", text)  # the port that we asked from is another one each time
    return cause(text).removeprefix("unknown: ").removesuffix(": unknown")


def message(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body


# ---- Docker's values read --------------------------------------------------------------------------------------------


def parts(reference: str) -> tuple[str, str, str]:
    """Repository, tag and digest of a reference, named as the engine names it: `docker.io/library/x` is `x`."""
    name, _, digest = reference.partition("@")
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag:  # the colon, if any, was a registry's port
        repository, tag = name, ""
    for prefix in ("index.docker.io/", "docker.io/", "library/"):
        repository = repository.removeprefix(prefix)
    return repository, tag or "latest", digest


def pinnable(image: ListedImage, repository: str) -> str:
    """What an image is pinned to: its digest in that repository, else its id."""
    digests = [name for name in image["RepoDigests"] or () if name.startswith(f"{repository}@")]
    return str(min(digests, default=image["Id"]))


def payloads(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What a raw stream carries, out of its frames: each has eight bytes in front, the last four of them its length."""
    data = b""
    for chunk in chunks:
        data += chunk
        while len(data) >= 8 and len(data) >= (end := 8 + int.from_bytes(data[4:8], "big")):
            yield data[8:end]
            data = data[end:]
        if len(data) > LONGEST_LINE:
            raise ValueError("a frame without end")


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, without the empty ones.  Raises ValueError for one that has no end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise ValueError("a line without end")
        yield from filter(None, map(bytes.strip, whole))
    if rest.strip():
        yield rest.strip()


def listed(container: ListedContainer) -> Instance:
    """An instance from `GET /containers/json`, which has health and exit code in words: `Exited (1) 5 s ago`."""
    status, labels = container["Status"], container["Labels"]
    health = re.search(r"\((?:health: )?(starting|healthy|unhealthy)\)", status)
    exited = re.match(r"(?:Exited|Restarting) \((-?\d+)\)", status)
    return Instance(
        name=container["Names"][0].lstrip("/"),
        app=labels[APP],
        service=labels.get(SERVICE, ""),
        ip=_ip(container),
        state=container["State"],
        health=health[1] if health else "",
        started=str(container["Created"]),
        exit_code=int(exited[1]) if exited else 0,
        published=tuple(
            Published(it["PrivatePort"], it["PublicPort"], it.get("IP", ""), it["Type"])
            for it in container.get("Ports") or ()
            if it.get("PublicPort")
        ),
        id=container["Id"],
    )


def label(container: ListedContainer, name: str) -> str:
    """One of the labels that gitops-mvd gives a container, "" without it."""
    return container["Labels"].get(LABEL + name, "")


def has_lost_networks(container: ListedContainer) -> bool:
    """Does it run on none of the networks that it belongs to?

    So Docker 26 leaves one if it goes down amid its start, containerd goes on with that, and it is started again.
    """
    networks = (container["NetworkSettings"]["Networks"] or {}).values()
    return container["State"] == "running" and bool(networks) and not any(it["EndpointID"] for it in networks)


def port_of(container: ListedContainer) -> int:
    """The host port of a routed instance, or 0."""
    port = label(container, "port")
    return int(port) if port.isdecimal() else 0


def inspected(container: InspectedContainer) -> Instance:
    state, labels = container["State"], container["Config"]["Labels"] or {}
    health = state.get("Health", {}).get("Status", "")
    return Instance(
        name=container["Name"].lstrip("/"),
        app=labels.get(APP, ""),
        service=labels.get(SERVICE, ""),
        ip=_ip(container),
        state=state["Status"],
        health="" if health == "none" else health,
        started="" if state["StartedAt"] == NEVER else state["StartedAt"],
        exit_code=state["ExitCode"],
        pid=state["Pid"],
        finished="" if state.get("FinishedAt", NEVER) == NEVER else state["FinishedAt"],
        unpublished=_unpublished(container) if state["Status"] == "running" else "",
        refused=state.get("Error", "") if state["Status"] in ("created", "exited") else "",  # a start takes it away
        id=container["Id"],
    )


def _unpublished(container: InspectedContainer) -> str:
    """The first port of the host that a running container should have and has not, "" if none.

    Without its proxy, an engine silently leaves out an address of a family that the container's network does not have.
    """
    if not container["NetworkSettings"]["Networks"] or container["HostConfig"].get("NetworkMode") == "host":
        return ""
    published = container["NetworkSettings"].get("Ports") or {}
    for port, bindings in (container["HostConfig"].get("PortBindings") or {}).items():
        addresses = {found["HostIp"] for found in published.get(port) or ()}
        for binding in bindings or ():
            if not addresses or binding["HostIp"] not in ("", *addresses):
                host = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
                return f"{host}:{binding['HostPort']}".strip(":") or port
    return ""


def names(container: InspectedContainer) -> dict[str, list[str]]:
    """The names of an inspected container on each of its networks, beside its own."""
    networks = container["NetworkSettings"]["Networks"] or {}
    return {name: endpoint.get("Aliases") or [] for name, endpoint in networks.items()}


def reached(container: InspectedContainer, networks: Collection[str | None]) -> dict[str, str]:
    """The address of an inspected container by each of its names, on the networks with these ids."""
    own = container["Name"].lstrip("/")
    endpoints = (container["NetworkSettings"]["Networks"] or {}).values()
    return {
        name.lower(): address
        for endpoint in endpoints
        if endpoint.get("NetworkID") in networks
        and (address := endpoint.get("IPAddress") or endpoint.get("GlobalIPv6Address"))
        for name in (own, *(endpoint.get("Aliases") or ()))
    }


def network(options: compose.Network) -> dict[str, Any]:
    """Compose's options of a network, but for its labels, as Docker's SDK names them."""
    return {
        "driver": options.get("driver"),
        "options": strings(options.get("driver_opts")),
        "ipam": _ipam(options["ipam"]) if options.get("ipam") else None,
        "internal": options.get("internal", False),
        "attachable": options.get("attachable"),
        "enable_ipv6": options.get("enable_ipv6", False),
    }


def chosen(options: compose.Network, made: ListedNetwork) -> list[dict[str, str]]:
    """The subnets that the engine chose for a plain bridge, as a request for them; empty for other networks."""
    if (
        options.get("driver") not in (None, "", "bridge", "default")
        or options.get("enable_ipv6")
        or options.get("ipam")
    ):
        return []
    pools: Iterable[Mapping[str, object]] = made["IPAM"]["Config"] or ()
    return [{key: str(pool[key]) for key in ("Subnet", "Gateway") if pool.get(key)} for pool in pools]


def _ipam(ipam: compose.Ipam) -> dict[str, Any]:
    pools = [
        {
            "Subnet": pool.get("subnet"),
            "IPRange": pool.get("ip_range"),
            "Gateway": pool.get("gateway"),
            "AuxiliaryAddresses": pool.get("aux_addresses"),
        }
        for pool in ipam.get("config", ())
    ]
    driver_options = strings(ipam.get("options"))
    return {
        "Driver": ipam.get("driver", "default"),
        "Config": pools,
        **({"Options": driver_options} if driver_options else {}),
    }


def strings(values: Mapping[str, object] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (values or {}).items()}


def _ip(container: ListedContainer | InspectedContainer) -> str:
    """Its address as the host reaches it; of several networks, on the first by name."""
    if container["HostConfig"].get("NetworkMode") == "host":
        return "127.0.0.1"
    networks = container["NetworkSettings"]["Networks"] or {}
    addresses = (
        networks[name].get("IPAddress") or networks[name].get("GlobalIPv6Address") for name in sorted(networks)
    )
    return next(filter(None, addresses), "")
