"""`fleet.yaml`: the hosts, with their labels, variables and logging.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypedDict

from gitops_mvd.config.readers import boolean, filled, mapping_of, one_of, own_word, placed, strings
from gitops_mvd.config.tables import Key, Place, Table, Unsupported, accepts, fields, or_empty, record
from gitops_mvd.config.yamltree import Sink, mistakes, parse
from gitops_mvd.core.compose import Logging
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import HostFacts, Problem
from gitops_mvd.core.ports import Tree
from gitops_mvd.core.waves import Rollouts
from gitops_mvd.manifest.lists import ListKeys, filled_in, lists, without_hosts
from gitops_mvd.manifest.logs import read_default_logging
from gitops_mvd.manifest.stand_ins import not_a_file
from gitops_mvd.manifest.waves import Written, read_rollout, read_rollout_of_app, rollouts_of

FILE = "fleet.yaml"
MOST_FACTS = 100_000  # labels, variables and options of logging of all hosts, defaults and lists counted for each


class DefaultKeys(TypedDict, total=False):
    labels: dict[str, str]
    variables: dict[str, str]
    logging: Logging


class HostKeys(DefaultKeys, total=False):
    drain: bool
    swarm: bool
    node_labels: list[str]
    nodes: list[tuple[Place, str]]


HOST_KEYS: Table = {
    "labels": Key("Labels for `node.labels.<name>` in constraints, and for override files.", mapping_of(own_word)),
    "variables": Key(
        "Variables for `${NAME}` in manifests. They override those of an app's `.env`.", mapping_of(own_word)
    ),
    "logging": Key(
        "`driver` and `options` of the services that do not name another driver, as if a file below theirs had them. A "
        "change of it is one of these services.",
        read_default_logging,
        "the journal",
    ),
    "drain": Key(
        "`true` gives the targets of this host no requests in the Kong that it shares with others (`kong.shared`), and "
        "leaves it out of `lists`; its containers go on. See `mvd fleet drain`.",
        boolean,
        "`false`",
    ),
    "swarm": Key(
        "`true` for a Docker Swarm: the host is all of its nodes together. See `mvd docs swarm`.", boolean, "`false`"
    ),
    "node_labels": Key(
        "Of a Swarm, the labels that its nodes have by `docker node update --label-add`: a constraint on one chooses "
        "nodes, and any other constraint whether the Swarm runs the service at all.",
        strings,
        "none",
    ),
    "nodes": Key(
        "Of a Swarm, the names of nodes (`docker node ls`) that a constraint on `node.hostname` may choose. A service "
        "with a volume has to choose one.",
        placed(filled),
        "none",
    ),
}


_host_keys = record(HostKeys, HOST_KEYS)


@accepts(or_empty(_host_keys.schema))
def _host(place: Place) -> HostKeys:
    return {} if place.node.value is None else _host_keys(place)


_OF_ONE_HOST = Unsupported("goes under a host in `hosts`")
_DEFAULT_KEYS: Table = {**HOST_KEYS, **dict.fromkeys(("drain", "swarm", "node_labels", "nodes"), _OF_ONE_HOST)}
_default_keys = record(DefaultKeys, _DEFAULT_KEYS)


@accepts(or_empty(_default_keys.schema))
def _defaults(place: Place) -> DefaultKeys:
    return {} if place.node.value is None else _default_keys(place)


@accepts({"type": "object", "additionalProperties": _host.schema})
def _hosts(place: Place) -> dict[str, HostKeys]:
    found = {name: at.attempt(_host) for name, at in place.entries().items()}
    return {name: host or {} for name, host in found.items()}


class AppKeys(TypedDict, total=False):
    unset: str
    rollout: Written


APP_KEYS: Table = {
    "unset": Key(
        "What a variable is that is not set and has no default: an `error`, or `empty`, as with Compose.",
        one_of("error", "empty"),
        "`error`",
    ),
    "rollout": Key(
        "Waves and gates of this app instead of the fleet's, or `none` to have it everywhere at once: then a host "
        "that it moves away from does not keep it until the new one has it, either.",
        read_rollout_of_app,
        "the fleet's",
    ),
}


_app_keys = record(AppKeys, APP_KEYS)


@accepts({"type": "object", "additionalProperties": or_empty(_app_keys.schema)})
def _apps(place: Place) -> dict[str, tuple[Place, AppKeys]]:
    found = {name: (at, None if at.empty else at.attempt(_app_keys)) for name, at in place.entries().items()}
    return {name: (at, keys or {}) for name, (at, keys) in found.items()}


FLEET: Table = {
    "hosts": Key("The hosts by name: `labels`, `variables`, `logging` and `drain` of each.", _hosts),
    "defaults": Key(
        "`labels`, `variables` and `logging` of all hosts. The labels and variables of a host are over them, one by "
        "one; its `logging` is instead of this one.",
        _defaults,
    ),
    "apps": Key("What holds for an app on all hosts, by the app's name: `unset` and `rollout`.", _apps),
    "rollout": Key(
        "The waves in which hosts begin with a commit, and what must hold in between.",
        read_rollout,
        "all hosts at once",
    ),
    "lists": Key(
        "Variables for `${NAME}` in manifests that have a text for each of several hosts, by their name: `constraints` "
        "and `each`. One in which no host is, is not set.",
        lists,
    ),
    "labels": Unsupported("goes under `defaults`, or under a host in `hosts`"),
    "variables": Unsupported("goes under `defaults`, or under a host in `hosts`"),
    "logging": Unsupported("goes under `defaults`, or under a host in `hosts`"),
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """The hosts and apps that the repository tells of; without a `fleet.yaml` every host is one, and has no labels."""

    hosts: Mapping[str, HostFacts] = field(default_factory=dict)
    apps: Mapping[str, int] = field(default_factory=dict)  # those that it names, with the line
    open: bool = True  # there is no fleet.yaml
    empty_lists: tuple[Problem, ...] = ()  # lists in which no host is
    rollouts: Rollouts = field(default_factory=Rollouts)

    def host(self, name: str, swarm: bool | None = None) -> HostFacts:
        """The facts of a host.  Raises ManifestError if there is a `fleet.yaml` without that host.

        Or, if it is known whether the host is a `swarm`, if it does not say so.
        """
        if name in self.hosts or self.open:
            facts = self.hosts.get(name, HostFacts(name))
            if swarm in (None, facts.swarm):
                return facts
            why = "is a Swarm by its settings: have `swarm: true`" if swarm else "is no Swarm by its settings"
            raise ManifestError([Problem(FILE, 1, f"hosts.{name}", why)])
        raise ManifestError([Problem(FILE, 1, "hosts", f"has no host {name}: add it, or correct the host's settings")])


def read_fleet(tree: Tree) -> Fleet:
    """The fleet.  Raises ManifestError with every mistake in `fleet.yaml`."""
    try:
        data = tree.read(FILE)
    except FileNotFoundError:
        if tree.oid(FILE):
            raise ManifestError([Problem(FILE, 1, "", not_a_file(tree, FILE))]) from None
        return Fleet()
    return _fleet(data)


@lru_cache(maxsize=2)  # it is asked for at every commit, and seldom another one
def _fleet(data: bytes) -> Fleet:
    sink: Sink = []
    node = parse(FILE, data, sink)
    values = Place(node, (), sink).attempt(fields, FLEET, ("hosts",)) if node else None
    if mistakes(sink) or values is None:
        raise _mistaken(sink)
    defaults = values.get("defaults", {})
    apps = values.get("apps", {})
    listed = values.get("hosts", {})
    named: dict[str, tuple[Place, ListKeys]] = values.get("lists", {})
    each, own = _count(defaults) + len(named), sum(map(_count, listed.values()))
    if each * len(listed) + own > MOST_FACTS:
        what = f"{MOST_FACTS:,} labels, variables and options"
        why = f"gives all hosts together more than {what}, the defaults counted for each"
        raise ManifestError([Problem(FILE, 1, "hosts", f"{why}: have fewer")])
    empty = frozenset(name for name, (_, app) in apps.items() if app.get("unset") == "empty")
    hosts = {
        name: HostFacts(
            name,
            labels={**defaults.get("labels", {}), **host.get("labels", {})},
            variables={**defaults.get("variables", {}), **host.get("variables", {})},
            unset_is_empty=empty,
            logging=host.get("logging", defaults.get("logging")),
            drained=host.get("drain", False),
            swarm=host.get("swarm", False),
            node_labels=frozenset(host.get("node_labels", ())),
            nodes=frozenset(node for _, node in host.get("nodes", ())),
        )
        for name, host in listed.items()
    }
    for host in listed.values():
        for at, node in host.get("nodes", ()):
            if node in listed:
                at.report(f"{node} is a host of its own, which a constraint on that name is about")
    every = list(hosts.values())
    shared = filled_in(named, every)
    of_apps = {name: app["rollout"] for name, (_, app) in apps.items() if "rollout" in app}
    rollouts = rollouts_of(values.get("rollout"), of_apps, hosts)
    if mistakes(sink):
        raise _mistaken(sink)
    if shared:
        hosts = {it.name: replace(it, variables={**shared, **it.variables}) for it in every}
    lines = {name: at.node.line for name, (at, _) in apps.items()}
    return Fleet(hosts, lines, open=False, empty_lists=tuple(without_hosts(named, every)), rollouts=rollouts)


def _mistaken(sink: Sink) -> ManifestError:
    return ManifestError(sorted(it.problem for it in mistakes(sink)) or [Problem(FILE, 1, "", "is empty")])


def _count(host: DefaultKeys) -> int:
    logging = host.get("logging", {"driver": "", "options": {}})
    return len(host.get("labels", ())) + len(host.get("variables", ())) + len(logging["options"])
