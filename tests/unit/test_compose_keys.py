"""Every Compose key that is accepted changes what is made on a host; or it is declared ignored, and changes nothing.

A key that were read and then forgotten would be half a key: `made` has all that an app becomes, in the words of Docker,
of systemd and of the plan, and for each key of each table two apps are compared that differ in this key alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from gitops_mvd.config.readers import text
from gitops_mvd.config.tables import Ignored, Key, Table, Unsupported, record
from gitops_mvd.core.compose import Run
from gitops_mvd.core.model import App, HostFacts, Service
from gitops_mvd.docker import answers, swarm_request
from gitops_mvd.docker.command_line import FLAGS, equivalent
from gitops_mvd.docker.create import KEYS, Place, request
from gitops_mvd.manifest import compose, composition, deploy, extensions, load, logs, network, storage, validate
from gitops_mvd.manifest.health import HEALTH_KEYS
from gitops_mvd.manifest.values import ServiceKeys
from gitops_mvd.probes import kafka
from gitops_mvd.systemd import unit
from tests.unit.memory_tree import MemoryTree

Mapping = dict[str, Any]
FILES = {
    "apps/demo/env": "A=1",
    "apps/demo/raw": "A=$B",
    "apps/demo/labels": "l=1",
    "apps/demo/text": "hello",
    "apps/demo/other.yaml": "services: {more: {image: more}}",
    "apps/demo/third.yaml": "services: {third: {image: 'third:${A:-none}'}}",
    "apps/demo/bases.yaml": "services: {db: {image: base, tty: true}, base: {image: base, stdin_open: true}}",
}
TOP: Mapping = {
    "services": {
        "web": {"image": "nginx"},
        "db": {"image": "postgres", "restart": "no"},
        "off": {"image": "off", "profiles": ["never"]},
    },
    "networks": {"n": None, "m": None},
    "volumes": {"v": None},
    "configs": {"c": {"content": "c"}, "d": {"content": "d"}},
    "secrets": {"s": {"file": "text"}},
}
HOST = HostFacts("web1", {"role": "web"}, {"B": "b", "C": "c"})
FLEET = {
    "web1": {"labels": HOST.labels, "variables": HOST.variables},
    "db1": {"labels": {"role": "db"}, "variables": HOST.variables},
}


KAFKA: Mapping = {"topic": "t", "group": "g", "lag": 1, "bootstrap_servers": "a:1"}


class Case(NamedTuple):
    """A table: where its mapping stands in the app, one that is valid, and another value for each of its keys.

    A value may come with other keys that it goes with, which both apps then have, or lack if they are None.
    """

    table: Table
    place: Callable[[Mapping], Mapping]
    valid: Mapping
    values: Mapping


class Beside(NamedTuple):
    value: Any
    others: Mapping


def service(**keys: Any) -> Mapping:
    return {**TOP, "services": {**TOP["services"], "web": {"image": "nginx", **keys}}}


def section(name: str) -> Callable[[Mapping], Mapping]:
    """The mapping as the first of a section of the top level, which the service uses."""
    uses = {
        "networks": {"networks": ["n"]},
        "volumes": {"volumes": ["v:/v"]},
        "configs": {"configs": ["c"]},
        "secrets": {"secrets": ["s"]},
    }
    return lambda mapping: {**service(**uses[name]), name: {**TOP[name], name[0]: mapping}}


def probe(mapping: Mapping) -> Mapping:
    return service(restart="no", **{"x-mvd": {"health": mapping}})


KONG = {"port": 80, "routes": [{"paths": ["/a"]}]}
DEVICE = [{"capabilities": ["gpu"]}]
HTTP = {"http": "/", "tcp": None}

CASES = {
    "compose.yaml": Case(
        composition.TOP,
        lambda mapping: mapping,
        TOP,
        {
            "services": {**TOP["services"], "new": {"image": "new"}},
            "networks": Beside({"n": {"internal": True}}, service(networks=["n"])),
            "volumes": Beside({"v": {"driver": "nfs"}}, service(volumes=["v:/v"])),
            "configs": Beside({"c": {"content": "other"}}, service(configs=["c"])),
            "secrets": Beside({"s": {"file": "env"}}, service(secrets=["s"])),
            "include": ["other.yaml"],
            "name": "other",
            "version": "3",
            "x-mvd": {"suspend": True},
        },
    ),
    "include": Case(
        composition.INCLUDE,
        lambda mapping: {**TOP, "include": [mapping]},
        {"path": "other.yaml"},
        {"path": "third.yaml", "env_file": Beside("raw", {"path": "third.yaml"})},
    ),
    "networks": Case(
        network.NETWORK,
        section("networks"),
        {},
        {
            "name": "other",
            "external": True,
            "driver": "macvlan",
            "driver_opts": {"a": "b"},
            "ipam": {"driver": "x"},
            "internal": True,
            "attachable": True,
            "enable_ipv4": False,
            "enable_ipv6": True,
            "labels": {"a": "b"},
        },
    ),
    "volumes": Case(
        storage.VOLUME,
        section("volumes"),
        {},
        {"name": "other", "external": True, "driver": "nfs", "driver_opts": {"a": "b"}, "labels": {"a": "b"}},
    ),
    "configs": Case(
        storage.CONFIG,
        section("configs"),
        {},
        {
            "file": "text",
            "environment": "B",
            "content": "text",
            "name": Beside("other", {"content": "c"}),
            "labels": Beside({"a": "b"}, {"content": "c"}),
        },
    ),
    "secrets": Case(
        storage.SECRET,
        section("secrets"),
        {},
        {
            "file": "text",
            "environment": "B",
            "external": True,
            "name": Beside("other", {"external": True}),
            "labels": Beside({"a": "b"}, {"file": "text"}),
        },
    ),
    "services": Case(
        compose.SERVICE,
        lambda mapping: service(**mapping),
        {"image": "nginx"},
        {
            **dict.fromkeys(["user", "working_dir", "hostname", "domainname", "cgroup_parent", "runtime"], "x"),
            **dict.fromkeys(["platform", "stop_signal", "cpuset", "userns_mode"], "x"),
            **dict.fromkeys(["privileged", "read_only", "tty", "stdin_open", "oom_kill_disable"], True),
            **dict.fromkeys(["mem_limit", "mem_reservation", "shm_size"], "64m"),
            "memswap_limit": Beside("64m", {"mem_limit": "32m"}),
            **dict.fromkeys(["cpus", "cpu_shares", "mem_swappiness", "pids_limit"], 7),
            **dict.fromkeys(["cpu_quota", "cpu_period"], 7000),
            **dict.fromkeys(["cpu_rt_runtime", "cpu_rt_period", "oom_score_adj", "scale"], 7),
            **{key: ["x"] for key in ["command", "entrypoint", "cap_add", "cap_drop", "security_opt", "group_add"]},
            **{key: ["x"] for key in ["dns_opt", "device_cgroup_rules"]},
            **{key: {"a": "b"} for key in ["annotations", "sysctls", "storage_opt", "environment", "labels"]},
            **dict.fromkeys(["dns", "dns_search"], "x"),
            **dict.fromkeys(["ipc", "pid", "uts", "cgroup", "network_mode"], "host"),
            "mac_address": "02:42:ac:11:65:43",
            "stop_grace_period": "1m",
            "restart": "no",
            "init": False,
            "devices": ["/dev/snd"],
            "expose": ["3000"],
            "extra_hosts": ["a:10.0.0.1"],
            "ulimits": {"nofile": 1},
            "logging": {"driver": "json-file"},
            "healthcheck": {"test": "true"},
            "blkio_config": {"weight": 300},
            "gpus": "all",
            "image": "apache",
            "env_file": "env",
            "label_file": "labels",
            "ports": ["80:80"],
            "volumes": ["v:/v"],
            "tmpfs": "/t",
            "configs": ["c"],
            "secrets": ["s"],
            "networks": ["n"],
            "depends_on": ["db"],
            "deploy": {"replicas": 2},
            "profiles": ["off"],
            "pull_policy": "always",
            "x-mvd": {"schedule": "daily"},
            "x-kong": KONG,
            "extends": {"file": "bases.yaml", "service": "base"},
            "container_name": "shop-web",
            "links": ["db:database"],
            "build": ".",
            "develop": {"watch": [{"action": "rebuild", "path": "."}]},
            "attach": False,
            "credential_spec": {"file": "spec.json"},
            "isolation": "default",
            **dict.fromkeys(["cpu_count", "cpu_percent"], 7),
        },
    ),
    "extends": Case(
        composition.EXTENDS,
        lambda mapping: service(extends=mapping),
        {"service": "db"},
        {"service": Beside("base", {"file": "bases.yaml"}), "file": "bases.yaml"},
    ),
    "env_file": Case(
        compose.ENV_FILE,
        lambda mapping: service(env_file=[mapping]),
        {"path": "raw"},
        {"path": "env", "required": Beside(False, {"path": "missing"}), "format": "raw"},
    ),
    "ports": Case(
        network.PORT_KEYS,
        lambda mapping: service(ports=[mapping]),
        {"target": 80, "published": "8080"},
        {
            "target": 81,
            "published": "8081",
            "host_ip": "10.0.0.1",
            "protocol": "udp",
            "mode": "ingress",
            "name": "web",
            "app_protocol": "http",
        },
    ),
    "volumes of a service": Case(
        storage.MOUNT,
        lambda mapping: service(volumes=[mapping]),
        {"type": "volume", "source": "v", "target": "/v"},
        {
            "type": Beside("tmpfs", {"source": None}),
            "source": None,
            "target": "/w",
            "read_only": True,
            "consistency": "cached",
            "bind": Beside({"propagation": "shared"}, {"type": "bind", "source": "/a"}),
            "volume": {"nocopy": True},
            "tmpfs": Beside({"size": "1m"}, {"type": "tmpfs", "source": None}),
        },
    ),
    "bind": Case(
        storage.BIND,
        lambda mapping: service(volumes=[{"type": "bind", "source": "/a", "target": "/b", "bind": mapping}]),
        {},
        {"propagation": "shared", "selinux": "z", "recursive": "disabled", "create_host_path": False},
    ),
    "volume": Case(
        storage.VOLUME_OPTIONS,
        lambda mapping: service(volumes=[{"type": "volume", "source": "v", "target": "/b", "volume": mapping}]),
        {},
        {"nocopy": True, "subpath": "x"},
    ),
    "tmpfs": Case(
        storage.TMPFS_OPTIONS,
        lambda mapping: service(volumes=[{"type": "tmpfs", "target": "/b", "tmpfs": mapping}]),
        {},
        {"size": "1m", "mode": 0o755},
    ),
    "configs of a service": Case(
        storage.GRANT,
        lambda mapping: service(configs=[mapping]),
        {"source": "c"},
        {"source": "d", "target": "/x", "uid": "1", "gid": "1", "mode": 0o400},
    ),
    "networks of a service": Case(
        network.ATTACHMENT,
        lambda mapping: service(networks={"n": mapping, "m": None}),
        {},
        {
            "aliases": ["x"],
            "ipv4_address": "10.0.0.7",
            "ipv6_address": "fd00::7",
            "link_local_ips": ["169.254.1.1"],
            "mac_address": "02:42:ac:11:65:43",
            "driver_opts": {"a": "b"},
            "priority": 1,
            "gw_priority": 1,
            "use_service_name_alias": False,
        },
    ),
    "depends_on": Case(
        compose.DEPENDENCY,
        lambda mapping: service(depends_on={"db": mapping, "off": {"required": mapping.get("required", True)}}),
        {},
        {
            "condition": Beside("service_completed_successfully", {"required": False}),
            "required": False,
            "restart": True,
        },
    ),
    "healthcheck": Case(
        compose.HEALTHCHECK,
        lambda mapping: service(healthcheck=mapping),
        {"test": "true"},
        {
            **dict.fromkeys(["interval", "timeout", "start_period", "start_interval"], "7s"),
            "test": "false",
            "retries": 7,
            "disable": True,
        },
    ),
    "logging": Case(
        logs.LOGGING,
        lambda mapping: service(logging=mapping),
        {},
        {"driver": "json-file", "options": {"tag": "b"}},
    ),
    "blkio_config": Case(
        compose.BLKIO,
        lambda mapping: service(blkio_config=mapping),
        {},
        {
            "weight": 300,
            "weight_device": [{"path": "/dev/a", "weight": 300}],
            **{key: [{"path": "/dev/a", "rate": "1m"}] for key in ["device_read_bps", "device_write_bps"]},
            **{key: [{"path": "/dev/a", "rate": 7}] for key in ["device_read_iops", "device_write_iops"]},
        },
    ),
    "deploy": Case(
        deploy.DEPLOY,
        lambda mapping: service(deploy=mapping),
        {},
        {
            "mode": Beside("global", {"replicas": 2}),
            "replicas": 2,
            "update_config": {"delay": "7s"},
            "placement": {"constraints": ["node.labels.role == db"]},
            "resources": {"limits": {"cpus": 7}},
            "restart_policy": {"condition": "none"},
            "rollback_config": {"parallelism": 2},
            "endpoint_mode": "vip",
            "labels": {"a": "b"},
        },
    ),
    "update_config": Case(
        deploy.UPDATE,
        lambda mapping: service(deploy={"update_config": mapping}),
        {},
        {
            "order": "start-first",
            "failure_action": "pause",
            "parallelism": 7,
            "delay": "7s",
            "monitor": "7s",
            "max_failure_ratio": 1,
        },
    ),
    "placement": Case(
        deploy.PLACEMENT,
        lambda mapping: service(deploy={"placement": mapping}),
        {},
        {
            "constraints": ["node.labels.role == db"],
            "preferences": [{"spread": "node.labels.zone"}],
            "max_replicas_per_node": 1,
        },
    ),
    "restart_policy": Case(
        deploy.RESTART_POLICY,
        lambda mapping: service(deploy={"restart_policy": mapping}),
        {},
        {
            "condition": "none",
            "max_attempts": Beside(7, {"condition": "on-failure"}),
            "delay": "7s",
            "window": "7s",
        },
    ),
    "resources": Case(
        deploy.RESOURCES,
        lambda mapping: service(deploy={"resources": mapping}),
        {},
        {"limits": {"cpus": 7}, "reservations": {"memory": "64m"}},
    ),
    "limits": Case(
        deploy.LIMITS,
        lambda mapping: service(deploy={"resources": {"limits": mapping}}),
        {},
        {"cpus": 7, "memory": "64m", "pids": 7},
    ),
    "reservations": Case(
        deploy.RESERVATIONS,
        lambda mapping: service(deploy={"resources": {"reservations": mapping}}),
        {},
        {
            "memory": "64m",
            "devices": DEVICE,
            "cpus": 7,
            "generic_resources": [{"discrete_resource_spec": {"kind": "x", "value": 2}}],
        },
    ),
    "devices": Case(
        deploy.DEVICE,
        lambda mapping: service(gpus=[mapping]),
        {},
        {"capabilities": ["tpu"], "driver": "nvidia", "count": 7, "device_ids": ["7"], "options": {"a": "b"}},
    ),
    "x-mvd of an app": Case(extensions.OF_APP, lambda mapping: {**TOP, "x-mvd": mapping}, {}, {"suspend": True}),
    "suspend": Case(
        extensions.SUSPEND,
        lambda mapping: {**TOP, "x-mvd": {"suspend": mapping}},
        {},
        {"why": "the disk is changed", "stop": True},
    ),
    "x-mvd": Case(
        extensions.X_MVD,
        lambda mapping: service(**{"x-mvd": mapping}),
        {},
        {"health": {"tcp": 80}, "schedule": "daily"},
    ),
    "health": Case(
        HEALTH_KEYS,
        probe,
        {"tcp": 80},
        {
            **dict.fromkeys(["within", "start_period", "interval", "timeout"], "7s"),
            "successes": 7,
            "tcp": 81,
            "http": Beside("/", {"tcp": None, "port": 80}),
            "grpc": Beside("x", {"tcp": None, "port": 80}),
            "exec": Beside("true", {"tcp": None}),
            "log": Beside("x", {"tcp": None}),
            "heartbeat": Beside("/x", {"tcp": None, "every": "7s"}),
            "kafka": Beside(KAFKA, {"tcp": None}),
            "docker": Beside(True, {"tcp": None}),
            "systemd": Beside(True, {"tcp": None}),
            "completed": Beside(True, {"tcp": None}),
            "port": Beside(81, {**HTTP, "port": 80}),
            "status": Beside(204, {**HTTP, "port": 80}),
            "body": Beside("x", {**HTTP, "port": 80}),
            "header": Beside({"a": "b"}, {**HTTP, "port": 80}),
            "every": Beside("7s", {"tcp": None, "log": "x"}),
        },
    ),
    "kafka": Case(
        kafka.CONSUMER,
        lambda mapping: probe({"kafka": mapping}),
        KAFKA,
        {
            "topic": "other",
            "group": "other",
            "lag": 7,
            "bootstrap_servers": "a:1,b:2",
            "tls": True,
            "sasl": {"username": "U", "password": "P"},
        },
    ),
    "kafka: sasl": Case(
        kafka.SASL,
        lambda mapping: probe({"kafka": {**KAFKA, "sasl": mapping}}),
        {"username": "U", "password": "P"},
        {"mechanism": "PLAIN", "username": "V", "password": "Q"},
    ),
    "x-kong": Case(
        extensions.X_KONG,
        lambda mapping: service(**{"x-kong": mapping}),
        KONG,
        {
            "port": 81,
            "protocol": "grpc",
            "routes": [{"paths": ["/b"]}],
            "auth": "key-auth",
            "plugins": [{"name": "cors"}],
            "service": {"retries": 1},
            "upstream": {"slots": 10},
            "paths": Beside(["/b"], {"routes": None, "hosts": ["a.org"]}),
            "hosts": Beside(["a.org"], {"routes": None, "paths": ["/b"]}),
            "methods": Beside(["GET"], {"routes": None, "paths": ["/b"]}),
            "headers": Beside({"a": ["b"]}, {"routes": None, "paths": ["/b"]}),
            "strip_path": Beside(False, {"routes": None, "paths": ["/b"]}),
            "preserve_host": Beside(True, {"routes": None, "paths": ["/b"]}),
        },
    ),
}


ONE_VALUE = {  # keys that accept only what is so anyway: another value is a mistake
    ("compose.yaml", "name"),
    ("networks", "enable_ipv4"),
    ("depends_on", "restart"),
}


ON_SWARM = {  # keys that mean something on a Swarm, and nothing on a plain host
    ("deploy", "labels"),
    ("placement", "preferences"),
    ("placement", "max_replicas_per_node"),
    ("reservations", "cpus"),
    ("reservations", "generic_resources"),
}


def tree(top: Mapping) -> MemoryTree:
    fleet = json.dumps({"hosts": FLEET})
    return MemoryTree({**FILES, "fleet.yaml": fleet, "apps/demo/compose.yaml": json.dumps(top)})


def made(top: Mapping) -> object:
    """All that an app becomes on a host, or its mistakes; names without the digests, which change with every key."""
    apps, broken = load(tree(top), HOST)
    if broken:
        return broken
    text = json.dumps([of_app(app) for app in apps], sort_keys=True)
    return re.sub(r"-[0-9a-f]{8}\b", "", text)


def on_swarm(top: Mapping) -> object:
    """What a Swarm is asked for, for the first service of the app."""
    apps, broken = load(tree(top), dataclasses.replace(HOST, swarm=True))
    assert not broken
    asked = swarm_request.request("demo", apps[0].services[0])
    labels = {name: value for name, value in asked["Labels"].items() if not name.startswith(compose.RESERVED)}
    return asked["TaskTemplate"], labels


def of_app(app: App) -> object:
    networks = {
        name: {**answers.network(options), "labels": options.get("labels"), "external": options.get("external")}
        for name, options in app.networks.items()
    }
    suspended = app.suspend.as_json() if app.suspend else None
    return [app.name, [of_service(app, one) for one in app.services], networks, dict(app.volumes), suspended]


def of_service(app: App, one: Service) -> object:
    place = Place("/f", "/srv/mvd", port=20000 if one.kong else 0, address="127.0.0.1", follows=unit.SYSTEMD)
    asked = request(app.name, one, place, (1, 51))
    words = equivalent(app.name, one, "NAME", place)
    text = unit.render(app.name, one, "NAME", 0, follows=unit.SYSTEMD)
    del asked.body["Labels"]["io.gitops-mvd.digest"]
    return [
        [asked.body, asked.platform, asked.networks],
        [word for command in words for word in command if not word.startswith("--label=io.gitops-mvd.digest=")],
        [line for line in text.splitlines() if not line.startswith(("#", "Description="))],
        [dict(one.environment), [vars_of(file) for file in one.files], one.kong],
        [mount["target"] for mount in one.run.get("volumes", ()) if "create_host_path" in mount.get("bind", {})],
        [vars_of(one.check), vars_of(one.update), dict(one.depends_on), one.replicas, one.pull_policy, one.schedule],
    ]


def vars_of(value: Any) -> Mapping:
    return {name: getattr(value, name) for name in value.__slots__}


@pytest.mark.parametrize(
    ("where", "key"), [(where, key) for where, case in CASES.items() for key in case.table], ids=lambda part: part
)
def test_a_key_changes_what_is_made_or_is_refused_or_is_declared_ignored(where: str, key: str) -> None:
    case = CASES[where]
    kind = case.table[key]
    if isinstance(kind, Unsupported):
        assert key not in case.values
        return
    value, others = case.values[key] if isinstance(case.values[key], Beside) else (case.values[key], {})
    given = {name: beside for name, beside in {**case.valid, **others}.items() if beside is not None}
    without, having = case.place(given), case.place({**given, key: value})
    assert bool(validate(tree(having))) == ((where, key) in ONE_VALUE)
    is_for_swarm = (where, key) in ON_SWARM
    assert (made(having) == made(without)) == (isinstance(kind, Ignored) or is_for_swarm)
    if is_for_swarm:
        assert on_swarm(having) != on_swarm(without)


def test_every_table_of_a_compose_file_is_tried() -> None:
    tables = {
        f"{module.__name__}.{name}": table
        for module in (compose, composition, deploy, extensions, network, storage)
        for name, table in vars(module).items()
        if isinstance(table, dict) and table and name[0] != "_"
        if all(isinstance(key, Key | Ignored | Unsupported) for key in table.values())
    }
    tried = [case.table for case in CASES.values()] + [compose.RUN]
    kong = ("KONG_ROUTE", "KONG_SERVICE")  # of Kong, whose fields go to Kong as they are
    missed = [
        name
        for name, table in tables.items()
        if not any(table is one for one in tried) and not (name.startswith(extensions.__name__) and name.endswith(kong))
    ]
    assert missed == []


def test_docker_has_words_for_every_key_of_a_container() -> None:
    assert KEYS.keys() == FLAGS.keys() == Run.__annotations__.keys()


def test_a_key_without_its_type_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="ServiceKeys and its table do not match: toy"):
        record(ServiceKeys, {**compose.SERVICE, "toy": Key("A toy.", text)})
