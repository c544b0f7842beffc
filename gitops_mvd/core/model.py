"""The nouns: frozen values that every room speaks.  Pure.

All durations are seconds, all sizes bytes.  Mappings inside the values are plain JSON (str, int, float, bool, None,
list, dict) and are never changed after they were made, so that every value can be digested, stored and compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

from gitops_mvd.core.canary import Canary
from gitops_mvd.core.compose import Endpoint, Logging, Mount, Network, Run, Tasks, Volume
from gitops_mvd.core.redact import told_line, told_text
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.text import plain_line
from gitops_mvd.core.xkong import Declaration, XKong

Json = Mapping[str, Any]
JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

LABEL = "io.gitops-mvd."  # prefix of the Docker labels: + app, service, digest, port, staged, revision
COMPLETED = "completed"  # the probe of a job
NOT_FAILED = "not_failed"  # the probe of a service that may end with exit code 0
_ENDLESS = "running"  # the probe of a service that may not end
STOP_GRACE_SECONDS = 10.0  # from the stop signal to the kill, as Docker and Compose have it
RUNNING = "running"  # state of a unit that is as it should be
OUTDATED = "outdated"  # state of a unit that runs as it should, and whose text an older version has written
LOST = "running without its container"  # state of a unit that is active, and whose container is not
STAGED = "staged"  # state of a unit whose container runs, without the alias of its service on its networks


def digest(value: object) -> str:
    """The SHA-256 of a JSON value, in hex: the same on every host and in every version of gitops-mvd."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


# ---- the three vocabularies (Argo CD's words) ------------------------------------------------------------------------


class Sync(StrEnum):
    """Does the host hold what Git says?"""

    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """How is it?  From best to worst, in the order that `worst` uses."""

    HEALTHY = "Healthy"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    MISSING = "Missing"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"

    @classmethod
    def worst(cls, of: Iterable[Health]) -> Health:
        """The worst of some healths; nothing at all is healthy."""
        return max(of, key=list(cls).index, default=cls.HEALTHY)


class Operation(StrEnum):
    """How did it end?  Only `Succeeded` is reported green."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ROLLED_BACK = "RolledBack"
    ROLLBACK_FAILED = "RollbackFailed"
    SUPERSEDED = "Superseded"


# ---- what Git says ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit of the config repository: `commit` is its full id, `ref` the branch, `subject` its first line.

    `author` is the name of who wrote it, `at` the Unix time at which it was made, 0 if that is unknown.
    """

    commit: str
    ref: str
    subject: str = ""
    author: str = field(default="", compare=False)
    at: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "commit", plain_line(self.commit))
        object.__setattr__(self, "ref", plain_line(self.ref))
        object.__setattr__(self, "subject", told_line(self.subject))
        object.__setattr__(self, "author", told_line(self.author))

    def to_json(self) -> dict[str, str]:
        """What is stored of it where versions without author and time may read it."""
        return {"commit": self.commit, "ref": self.ref, "subject": self.subject}

    @property
    def short(self) -> str:
        return self.commit[:7]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in the repository: `key` is the dotted path in the file, `message` what to do about it."""

    file: str
    line: int
    key: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", plain_line(self.file))
        object.__setattr__(self, "key", plain_line(self.key))
        object.__setattr__(self, "message", told_line(self.message))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key + ': ' if self.key else ''}{self.message}"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What `fleet.yaml` says of one host; `variables` feed the interpolation, `labels` the placement.

    `unset_is_empty` has the apps whose variables are empty if they are not set, `logging` what holds for services that
    name no other driver; None for the journal.  A host that is `drained` gets no requests from a Kong that it shares.
    `swarm`: is it no server, but a Docker Swarm of several?  `node_labels` are then labels that its nodes have, each
    for itself, and `nodes` the names of those that a constraint may choose.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    unset_is_empty: frozenset[str] = frozenset()
    logging: Logging | None = None
    drained: bool = False
    swarm: bool = False
    node_labels: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Check:
    """When a service counts as healthy: the probe of that name says so, within so long, and for so long.

    `probe` is the name of a module in `probes/`, `spec` its argument (`{"path": "/health", "port": 7799}`).
    `start_period` and then `within` seconds are granted to become healthy, which takes so many `successes` in a row;
    then it must stay healthy for `hold` seconds.  `interval` is the pause between two tries, 0 for ever longer pauses.
    """

    probe: str
    spec: Json = field(default_factory=dict)
    within: float = 60.0
    hold: float = 0.0
    start_period: float = 0.0
    interval: float = 0.0
    successes: int = 1


@dataclass(frozen=True, slots=True)
class File:
    """Files of the repository to be mounted, read-only, at `target` in the container.

    `files` maps relative paths to contents (text, undecodable bytes as surrogate escapes); the single key "" is one
    file mounted at `target` itself, anything else a folder.  `mode`, `uid` and `gid` are the files' own, 0 root.
    `options` are further words of the bind: `z`, `Z` or a propagation.  `secrets` maps the paths of further files to
    the names of the secrets that are their content.
    """

    target: str
    files: Mapping[str, str] = field(repr=False)
    mode: int = 0o444
    uid: int = 0
    gid: int = 0
    options: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_single(self) -> bool:
        """Is it one file, and not a folder?"""
        return {*self.files, *self.secrets} == {""}

    def to_json(self) -> dict[str, Any]:
        """As JSON; `options` and `secrets` only if there are any, as versions made before them have none."""
        later = ("options", "secrets")
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in later or value}

    @classmethod
    def from_json(cls, value: Json) -> File:
        return cls(**{**value, "options": tuple(value.get("options", ()))})


@dataclass(frozen=True, slots=True)
class Update:
    """Compose's `deploy.update_config`."""

    order: str = "start-first"  # or stop-first
    failure_action: str = "rollback"  # or pause, continue
    parallelism: int = 1
    delay: float = 0.0


@dataclass(frozen=True)
class Service:
    """One service of a Compose file, in normal form: long forms, resolved names, merged environment.

    `image` is the reference as written; once pinned it is `repository@sha256:...`, or `sha256:...` for an image that
    only this host's engine has, and `tag` keeps what was written.  `run` has the keys that make its container.
    `kong` is the normal form of `x-kong`, None without one.
    `schedule` is a time in systemd's OnCalendar language at which it runs, "" for a service that runs all the time.
    `owner` is its app if its instances would else have the names of those of another app, "" for nearly all.
    `secrets` has every secret that its environment and its files refer to, with a digest of the content that only this
    host can make, "" before it is asked for.  `sealed` has, until then, the encrypted files of the repository among
    them, by their path.  With a `canary`, a new version gets its traffic by and by.  `swarm` says how a Swarm runs it,
    None on a plain host: its `replicas` are then 1, as all of its tasks are one instance.
    """

    name: str
    image: str
    run: Run = field(default_factory=Run)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[File, ...] = ()
    check: Check = field(default_factory=lambda: Check("running", hold=5.0))
    kong: XKong | None = None
    replicas: int = 1
    update: Update = field(default_factory=Update)
    depends_on: Mapping[str, str] = field(default_factory=dict)  # service -> Compose condition
    pull_policy: str = "missing"  # or always, never
    tag: str = ""
    schedule: str = ""
    owner: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)
    sealed: Mapping[str, str] = field(default_factory=dict, repr=False)
    canary: Canary | None = None
    swarm: Tasks | None = None

    @cached_property
    def digest(self) -> str:
        """What a container of this service is made of, and nothing else: not its tag, route, probe or replicas."""
        files, run = [file.to_json() for file in self.files], made_of(self.run)
        port = self.kong["port"] if self.kong else 0
        parts = {"image": self.image, "run": run, "environment": self.environment, "files": files, "port": port}
        # The unit of a schedule is another one, and so is a container with another content of a secret.
        further = {"scheduled": bool(self.schedule), "owner": self.owner, "secrets": self.secrets, "swarm": self.swarm}
        return digest({**parts, **{name: value for name, value in further.items() if value}})

    @property
    def is_job(self) -> bool:
        """Does it end, once for each content?  Others may wait for that (`service_completed_successfully`)."""
        return self.check.probe == COMPLETED

    @property
    def restart(self) -> str:
        """When systemd starts a container again that has ended, in Compose's words: `always`, `on-failure:3`, ...

        Compose's default is `no`, where an end with code 0 is well and any other is for somebody to see.  On a server
        it is systemd that sees it: what is left out is started again unless it ended with 0, and what serves always.
        """
        if self.schedule:
            return "no"
        otherwise = "no" if self.is_job else "always" if self.serves else "on-failure"
        return self.run.get("restart") or otherwise

    @property
    def serves(self) -> bool:
        """Is it there to be asked: has it a route, a port of the host, or a probe that asks it?"""
        is_asked = self.check.probe not in (COMPLETED, "not_failed", "running", "scheduled")
        return bool(self.kong or self.run.get("ports")) or is_asked

    @property
    def stop_grace(self) -> float:
        """Seconds that its containers are given to stop, Compose's `stop_grace_period`."""
        return self.run.get("stop_grace_period", STOP_GRACE_SECONDS)

    def endpoints(self, app: str) -> Mapping[str, Endpoint]:
        """The networks that its containers join, by their real names.

        Without `networks` and `network_mode` in `run` it is the default network of its app, where it has its own name.
        """
        if "network_mode" in self.run:
            return {}
        return self.run.get("networks") or {default_network(app): {"aliases": [self.name]}}

    def to_json(self) -> dict[str, Any]:
        """Its content, as `App.to_json` has it."""
        value = dataclasses.asdict(self)
        value["files"] = [file.to_json() for file in self.files]
        del value["sealed"]
        for name in ("owner", "secrets", "canary", "swarm"):  # older versions have none
            if not value[name]:
                del value[name]
        if self._may_end:
            value["check"]["probe"] = _ENDLESS
        return value

    @classmethod
    def from_json(cls, value: Json) -> Service:
        files, check = tuple(map(File.from_json, value["files"])), Check(**value["check"])
        canary = Canary.from_json(value["canary"]) if value.get("canary") else None
        read = cls(**{**value, "files": files, "check": check, "update": Update(**value["update"]), "canary": canary})
        if "restart" not in read.run and check.probe == _ENDLESS:
            return dataclasses.replace(read, check=dataclasses.replace(check, probe=NOT_FAILED))
        return read

    @property
    def _may_end(self) -> bool:
        """Does it have the check of a service without `restart`?  It was `running` in the versions before, and is so
        in what is stored, as no upgrade may make another version of an app."""
        return "restart" not in self.run and self.check.probe == NOT_FAILED

    def instances(self, app: str) -> list[str]:
        """The names of its units and containers, one a replica.  Never only hex: Docker would take it for an id."""
        name = f"mvd-{app}-{self.name}-{self.digest[:8]}"
        return [name] + [f"{name}-{n}" for n in range(2, self.replicas + 1)]


def made_of(run: Run) -> Run:
    """The keys of a container without those that make no other container: may a missing folder of the host be made?"""
    mounts = run.get("volumes", [])
    if not any("create_host_path" in mount.get("bind", {}) for mount in mounts):
        return run
    return {**run, "volumes": [_without_create_host_path(mount) for mount in mounts]}


def _without_create_host_path(mount: Mount) -> Mount:
    bind = mount.get("bind", {}).copy()
    bind.pop("create_host_path", None)
    rest = mount.copy()
    rest.pop("bind", None)
    return {**rest, "bind": bind} if bind else rest


def default_network(app: str) -> str:
    """The real name of the network `default` of an app that does not declare it."""
    return f"mvd-{app}-default-{digest({})[:8]}"


@dataclass(frozen=True, eq=False)
class App:
    """One Compose file: deploys together and rolls back together.  Two are equal if they have the same version.

    `networks` and `volumes` map the real name on the host to its options in Compose's long form (`external: true` if
    somebody else makes it).  `kong_entities` has Kong-wide entities in its declarative format, for the one app
    made of the folder `kong/`; it is empty for all others.  `notes` is what its files say that is done otherwise than
    somebody might expect, and `suspend` that its commit suspends it; neither is part of the version.
    """

    name: str
    services: tuple[Service, ...] = ()
    networks: Mapping[str, Network] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    kong_entities: Mapping[str, list[Declaration]] = field(default_factory=dict, repr=False)
    notes: tuple[Problem, ...] = field(default=(), compare=False)
    suspend: Suspension | None = field(default=None, compare=False)

    @cached_property
    def version(self) -> str:
        """The digest of its content: two apps with the same version are the same app."""
        value = self.to_json()
        services = [{**service, "run": made_of(service["run"])} for service in value["services"]]
        return digest({**value, "services": services})

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, App):
            return self is other
        alike = self.name == other.name and len(self.services) == len(other.services)
        return alike and self.version == other.version  # which is known of most, but not of an empty one made for this

    def __hash__(self) -> int:
        return hash(self.version)

    @cached_property
    def all_networks(self) -> Mapping[str, Network]:
        """Its networks and, if a service is on it without naming it, its default network."""
        joined = {name for service in self.services for name in service.endpoints(self.name)}
        default = default_network(self.name)
        return {**self.networks, default: {}} if default in joined - self.networks.keys() else self.networks

    def to_json(self) -> dict[str, Any]:
        """Its content.  Versions and stored apps are made of this: the keys are never renamed."""
        services = [service.to_json() for service in self.services]
        of_app = {"networks": self.networks, "volumes": self.volumes, "gateway": self.kong_entities}
        return {"name": self.name, "services": services, **of_app}

    @classmethod
    def from_json(cls, value: Json) -> App:
        services = [Service.from_json(service) for service in value["services"]]
        entities = {"kong_entities": value["gateway"]} if "gateway" in value else {}
        others = {name: value[name] for name in value if name != "gateway"}
        return cls(**{**others, **entities, "services": tuple(services)})


@dataclass(frozen=True, slots=True)
class Desired:
    """What this host should be at a revision.  A `broken` app, with its problems, is *not* a removed one."""

    revision: Revision
    apps: tuple[App, ...]
    broken: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)


# ---- what the host has, and what to do about it ----------------------------------------------------------------------


class Role(StrEnum):
    """What a kind of resource is to the plan of an app."""

    INSTANCE = "instance"  # it serves: made, proven, switched to and drained by turns
    CONTAINER = "container"  # what an instance of the same name runs in: made before anything stops, gone after it
    ROUTE = "route"  # it leads to instances
    TIMER = "timer"  # it starts an instance on a schedule, and goes with it
    SUPPORT = "support"  # it comes and goes with the services that need it
    DATA = "data"  # it outlives the services that use it


Roles = Mapping[str, Role]
"""The role of every kind, in the order in which the kinds need each other."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Something on the host, wanted or observed: equal means in sync.

    `spec` is what can be seen of it, in one vocabulary for both sides, and never a secret: it has digests of contents.
    `payload` is what else it takes to make it; it is neither compared nor shown.
    """

    kind: str
    name: str
    app: str
    service: str = ""
    spec: Json = field(default_factory=dict)
    payload: object = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("app", "service"):  # a container may have any label
            if (plain := plain_line(given := getattr(self, name))) is not given:
                object.__setattr__(self, name, plain)

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name

    def with_spec(self, **changed: Any) -> Resource:
        return dataclasses.replace(self, spec={**self.spec, **changed})


@dataclass(frozen=True, slots=True)
class Change:
    """One step: `was` becomes `to`.  Without a `was` it is created, without a `to` deleted."""

    was: Resource | None
    to: Resource | None

    @property
    def resource(self) -> Resource:
        there = self.to or self.was
        assert there is not None, "a change of nothing into nothing"
        return there

    @property
    def verb(self) -> str:
        return "delete" if not self.to else "update" if self.was else "create"


@dataclass(frozen=True, slots=True)
class Gate:
    """One step: wait until a resource, an instance or a route, passes `check`.

    A gate that is not `required` only reports that it was not passed (`failure_action: continue`).
    """

    resource: Resource
    check: Check
    required: bool = True


Step = Change | Gate


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be done to one app, in order: first change what serves, then clean up."""

    change: tuple[Step, ...] = ()
    clean: tuple[Step, ...] = ()

    def __iter__(self) -> Iterator[Step]:
        return iter((*self.change, *self.clean))

    def __bool__(self) -> bool:
        """Is there anything to change?  A gate alone changes nothing."""
        return any(isinstance(step, Change) for step in self)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version is not to be used, and what is done about it: Compose's `failure_action`, or `hold`.

    `rollback`: the app goes back.  `pause`: nothing is done until `mvd retry`.  `continue`: the app stays, and its
    commit is red.  `hold`: nothing is done for as long as the reason lasts.  `wait`: the app goes back, as the
    surroundings did not allow it; once it `is_due`, the same version is tried again.  `lacking`: the same, and the
    commit is red until then, as somebody has to do something about it.  `keep`: the app stays until other hosts have
    what leaves this one.
    """

    why: str
    action: str = "rollback"
    is_due: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "why", told_text(self.why))


WAIT, KEEP = "wait", "keep"


@dataclass(frozen=True, slots=True)
class Goal:
    """Where an app is to get: to a version or, if there is none, to exactly the resources that were found `before`.

    A version that is not `proven` passes all of its gates.
    """

    app: App
    proven: bool = False
    before: tuple[Resource, ...] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one app came out of a pass; `why` is the cause in one sentence, "" if it is simply healthy.

    `removed` says that nothing of the app is left to be counted: Git no longer has it, and this pass took it away.
    `changed` tells what differs from the version that ran before, "" if nothing does.  An app that is `suspended` was
    left as it is, or stopped, and `why` tells so.  `fault` says whose
    fault a failure is, one of `errors.FAULTS`.
    """

    app: str
    sync: Sync
    health: Health
    operation: Operation = Operation.SUCCEEDED
    did: Plan = field(default_factory=Plan)
    why: str = ""
    removed: bool = False
    changed: str = ""
    suspended: Suspension | None = None
    fault: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "app", plain_line(self.app))
        object.__setattr__(self, "why", told_text(self.why))
        object.__setattr__(self, "changed", told_line(self.changed))

    @property
    def is_on_its_way(self) -> bool:
        """Does it go on where it is, with nothing in its way, at the next pass?"""
        return self.operation is Operation.RUNNING and not self.fault

    @property
    def is_green(self) -> bool:
        """Is it synced, healthy, and its last operation a success?"""
        return (self.sync, self.health, self.operation) == (Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class Report:
    """How one host came out of a pass: one value for the log, the statuses, the history, the CLI and the web."""

    host: str
    revision: Revision
    outcomes: tuple[Outcome, ...]

    @property
    def health(self) -> Health:
        return Health.worst(outcome.health for outcome in self.outcomes)

    @property
    def is_green(self) -> bool:
        """Is every app synced, healthy, and its last operation a success?"""
        return all(outcome.is_green for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """The status of a commit, before the words and limits of a forge.

    `operation` is `Running` while it lasts; `health` matters once it succeeded.  `url` leads to details.  With an
    `environment` it is a deployment to that environment, too, if the forge has deployments.  With `peers`, the contexts
    of all hosts of a wave, its own among them, it counts for the status of that wave, whose context is `wave`.
    """

    context: str
    operation: Operation
    health: Health
    description: str
    url: str = ""
    environment: str = ""
    wave: str = ""
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("context", "url", "environment"):
            object.__setattr__(self, name, plain_line(getattr(self, name)))
        object.__setattr__(self, "description", told_line(self.description))


PostedState: TypeAlias = Literal["green", "red", "pending"]


@dataclass(frozen=True, slots=True)
class PostedStatus:
    """A commit status as the forge has it, whoever posted it: the newest of its context.

    `green` is success alone and `red` what the forge shows as failed; all else is `pending`, and lets nothing pass.
    `at` is when it was posted or last changed, in seconds since 1970 by the forge's clock.
    """

    context: str
    state: PostedState
    description: str
    url: str
    at: float

    def __post_init__(self) -> None:
        for name in ("context", "url"):
            object.__setattr__(self, name, plain_line(getattr(self, name)))
        object.__setattr__(self, "description", told_line(self.description))


@dataclass(frozen=True, slots=True)
class PullRequest:
    """An open pull or merge request to the followed branch.

    `commit` is its head, `ref` the ref by which Git fetches it from the repository, "" if it is only in a fork.
    """

    number: int
    commit: str
    ref: str
    is_fork: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, as a webhook says, which is only a hint; `ref` is the full ref of a push.

    A status was posted to that `commit` in that `context`; of any other event, these say nothing.
    """

    kind: str  # push, pull_request, status, ping or other
    ref: str = ""
    commit: str = ""
    context: str = ""
    state: PostedState = "pending"


class Published(NamedTuple):
    """A port of a container on the host: on an `address` of it, `0.0.0.0` or `::` for all of a family."""

    target: int
    port: int
    address: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One managed container as the engine sees it now, for probes and for health.

    `ip` is its address on a bridge as the host reaches it (127.0.0.1 on the host's own network, "" if it has none),
    `state` Docker's word (`created`, `running`, `restarting`, `exited`, ...), `health` that of its HEALTHCHECK
    (`starting`, `healthy`, `unhealthy`, "" without one).  `started` changes with every start.  `pid` is that of its
    first process on this host, 0 if unknown.  `unpublished` names a port of the host that was asked for and that the
    engine has not published, "" without any.  `finished` is the ISO time of its last end, "" if it never ended.
    `refused` is why the engine did not start it, for the first time or again, "" if it did or was not asked to.
    `published` are its ports on the host, as the listing has them; `id` is Docker's own, of 64 hex digits.  `lacks` is
    what a service of a Swarm has too little of: `1 of 2 tasks run`; "" if it has all.
    """

    name: str
    app: str = ""
    service: str = ""
    ip: str = ""
    state: str = ""
    health: str = ""
    started: str = ""
    exit_code: int = 0
    pid: int = 0
    unpublished: str = ""
    finished: str = ""
    refused: str = ""
    published: tuple[Published, ...] = ()
    id: str = ""
    lacks: str = ""


def unix_time(started: str) -> float:
    """The Unix time of `Instance.started`, which must not be "": a number from a listing, else an ISO time."""
    return float(started) if started.isdecimal() else datetime.fromisoformat(started).timestamp()


THREAD_NEWS_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ThreadState:
    """A thread of the daemon that has ended at least once: is it at work again, and `since` when is it as it is?

    `since` is Unix time, `cause` why it ended last, and `restarts` how often it was started again.
    """

    name: str
    is_up: bool
    since: float
    cause: str = ""
    restarts: int = 0

    def is_news(self, now: float) -> bool:
        """Is it down, or was it started again in the last hour?"""
        return not self.is_up or now - self.since < THREAD_NEWS_SECONDS
