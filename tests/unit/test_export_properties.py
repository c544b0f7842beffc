"""Whatever an app is: its documents are what Kubernetes takes, and none has the value of a secret."""

from __future__ import annotations

import json
from typing import Any, cast

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.compose import Run
from gitops_mvd.core.model import Check, File, Service, Update
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.xkong import XKong
from gitops_mvd.exports.app import Choices
from gitops_mvd.exports.names import label, service_label, unique, workload_label
from gitops_mvd.exports.remarks import lost, plain, remark
from gitops_mvd.exports.report import as_json, export, text_of
from gitops_mvd.exports.source import Exported, Source
from gitops_mvd.exports.text import document
from gitops_mvd.manifest.placement import Constraint
from tests.unit.kubernetes_schemas import mistakes

patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
lines = st.text(st.sampled_from("abcXYZ019$()'\"\\:{}#&*!|>%@`~ \t-_./"), max_size=20)
names = st.from_regex(r"[a-zA-Z0-9._-]{1,63}", fullmatch=True)
apps = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,40}", fullmatch=True)
words = st.lists(texts | lines, max_size=3)
paths = st.from_regex(r"/[a-zA-Z0-9._-]{1,20}(/[a-zA-Z0-9._-]{1,20}){0,2}", fullmatch=True)
ports = st.integers(1, 65535)
secrets = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,30}", fullmatch=True)
seconds = st.floats(0, 10_000)
labels = st.dictionaries(names | texts, texts, max_size=3)
SECRET = "pl4nted-Zq7-and-more"

mounts = st.builds(
    lambda kind, source, target, read_only, options: {
        "type": kind,
        "source": {"volume": source, "bind": f"./{source}" if source else "/srv/data", "tmpfs": ""}[kind],
        "target": target,
        "read_only": read_only,
        **({"tmpfs": options} if kind == "tmpfs" and options else {}),
    },
    st.sampled_from(["volume", "bind", "tmpfs"]),
    st.sampled_from(["", "shop_data", "data", "other"]),
    paths,
    st.booleans(),
    st.fixed_dictionaries({}, optional={"size": st.integers(0, 1 << 40), "mode": st.integers(0, 0o7777)}),
)
published = st.fixed_dictionaries(
    {
        "target": ports,
        "published": st.just("") | ports.map(str) | st.just("8000-8010"),
        "host_ip": st.sampled_from(["", "0.0.0.0", "127.0.0.1", "::1", "10.0.0.9"]),
        "protocol": st.sampled_from(["tcp", "udp", "sctp"]),
    }
)
devices = st.fixed_dictionaries(
    {
        "driver": st.sampled_from(["", "nvidia", "amd", "other"]),
        "device_ids": st.lists(st.sampled_from(["0", "1"]), max_size=2),
        "capabilities": st.lists(st.sampled_from(["gpu", "compute"]), max_size=2),
        "options": st.dictionaries(names, texts, max_size=1),
    },
    optional={"count": st.integers(1, 8) | st.just("all")},
)
healthchecks = st.fixed_dictionaries(
    {},
    optional={
        "test": st.sampled_from(["CMD", "CMD-SHELL"]).flatmap(
            lambda first: words.map(lambda more: [first, "x", *more])
        ),
        "interval": seconds,
        "timeout": seconds,
        "start_interval": seconds,
        "retries": st.integers(0, 10),
        "disable": st.booleans(),
    },
)
RUN: dict[str, st.SearchStrategy[Any]] = {
    "user": st.sampled_from(["", "root", "1000", "1000:1000", "www-data", "0:video", ":5", "99999999999"]),
    "working_dir": paths,
    "hostname": names,
    "domainname": names,
    "network_mode": st.sampled_from(["host", "none", "bridge", "service:one", "container:x"]),
    "ipc": st.sampled_from(["host", "shareable", "service:one"]),
    "pid": st.sampled_from(["host", "service:one"]),
    "platform": st.sampled_from(["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "amd64", "linux", "windows/x y"]),
    "stop_signal": st.sampled_from(["SIGINT", "QUIT", "15", "SIGTERM", "3", "RTMIN+3"]),
    "stop_grace_period": seconds,
    "restart": st.sampled_from(["always", "no", "on-failure:3", "unless-stopped"]),
    "command": words,
    "entrypoint": words,
    "cap_add": st.lists(st.sampled_from(["NET_ADMIN", "CAP_SYS_ADMIN", "all"]), max_size=2),
    "cap_drop": st.lists(st.just("ALL"), max_size=1),
    "security_opt": st.lists(
        st.sampled_from(
            ["no-new-privileges:true", "no-new-privileges", "seccomp=unconfined", "label:type:x", "label=disable"]
        ),
        max_size=3,
    ),
    "group_add": st.lists(st.sampled_from(["5", "video", "99999999999"]), max_size=2),
    "dns_search": st.lists(names, max_size=2),
    "dns_opt": st.lists(st.sampled_from(["ndots:2", "rotate", "???"]), max_size=2),
    "extra_hosts": st.lists(
        st.sampled_from(["a:10.0.0.1", "b=::1", "gateway:host-gateway", "_x:10.0.0.1"]), max_size=3
    ),
    "expose": st.lists(st.sampled_from(["80", "8000-8003/udp", "443/tcp"]), max_size=2),
    "labels": labels,
    "annotations": labels,
    "sysctls": st.dictionaries(st.sampled_from(["net.core.somaxconn", "Bad Name"]), st.sampled_from(["1"]), max_size=2),
    "tmpfs": st.lists(
        st.builds(lambda path, it: f"{path}{it}", paths, st.sampled_from(["", ":size=5m", ":noexec", ":mode=1777"])),
        max_size=2,
    ),
    "volumes": st.lists(mounts, max_size=4),
    "ports": st.lists(published, max_size=3),
    "gpus": st.lists(devices, max_size=2),
    "devices": st.lists(st.sampled_from(["/dev/fuse:/dev/fuse:rwm", "nvidia.com/gpu=0", "vendor.com/x=1"]), max_size=2),
    "healthcheck": healthchecks,
    "logging": st.just({"driver": "gelf", "options": {}}) | st.just({"driver": "", "options": {"max-size": "1m"}}),
    "ulimits": st.just({"nofile": {"soft": 1, "hard": 2}}),
    **dict.fromkeys(["init", "privileged", "read_only", "tty", "stdin_open"], st.booleans()),
    **dict.fromkeys(["mem_limit", "mem_reservation", "shm_size"], st.integers(0, 1 << 42)),
    **dict.fromkeys(["cpu_shares", "cpu_quota", "cpu_period", "pids_limit"], st.integers(0, 1 << 20)),
    "cpus": st.floats(0, 512),
}
runs = st.fixed_dictionaries({}, optional=RUN)
checks = st.builds(
    lambda probe, within, hold, start, interval, successes: Check(
        probe[0], probe[1], within=within, hold=hold, start_period=start, interval=interval, successes=successes
    ),
    st.sampled_from(
        [
            ("http", {"path": "/health?a=1", "port": 80}),
            ("http", {"path": "/", "port": 80, "status": [204], "body": "x", "header": {"a": "b"}, "timeout": 0.5}),
            ("tcp", {"port": 5432}),
            ("grpc", {"service": "", "port": 9000}),
            ("exec", {"command": ["true"]}),
            ("log", {"pattern": "x"}),
            ("kafka", {"consumer": {}}),
            ("heartbeat", {"path": "/x", "every": 5.0}),
            *((name, {}) for name in ("running", "not_failed", "docker", "systemd", "completed", "scheduled", "later")),
        ]
    ),
    *[seconds] * 4,
    st.integers(1, 10),
)
files = st.builds(
    lambda target, files, mode, uid, secret: File(target, files, mode, uid, secrets={"": secret} if not files else {}),
    paths | st.just("/run/secrets/x"),
    st.just({"": "text\n"})
    | st.dictionaries(names.filter(lambda it: it not in (".", "..")), texts | st.just("\udc80"), max_size=3),
    st.sampled_from([0o444, 0o400, 0o7755]),
    st.sampled_from([0, 1000]),
    secrets,
)
environments = st.dictionaries(names | texts.filter(lambda it: it and "=" not in it), texts | lines, max_size=4)
routes = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "paths": st.lists(
            st.sampled_from(["/", "/a", "/a b", "~/x[0-9]+", "/%2F", "/pkg.Svc/Do", f"/{'x' * 1100}"]), max_size=4
        ),
        "hosts": st.lists(
            st.sampled_from(["a.example", "*.Example.org", "x.*", "[::1]", "a_b", "10.0.0.1"]), max_size=3
        ),
        "methods": st.lists(st.sampled_from(["GET", "POST", "PURGE"]), max_size=3),
        "headers": st.dictionaries(
            st.sampled_from(["x-a", "X_B"]), st.lists(st.sampled_from(["1", "~*a", "", "2"]), max_size=3), max_size=2
        ),
        "protocols": st.sampled_from([["http"], ["https", "http"], ["grpc", "grpcs"], ["tcp"], ["tls_passthrough"]]),
        "snis": st.lists(st.sampled_from(["a.org", "*.org"]), max_size=2),
        "strip_path": st.booleans(),
        "regex_priority": st.integers(0, 5),
        "tags": st.just(["t"]),
        "plugins": st.just([{"name": "cors"}, {"name": "cors", "consumer": "c"}]),
    },
)
plugins = st.builds(
    lambda name, config, protocols: {"name": name, "config": config, **({"protocols": protocols} if protocols else {})},
    names,
    st.sampled_from(
        [
            {},
            {"minute": 5},
            {"password": SECRET},
            {"redis": {"password": "{file://a.b}"}, "list": ["{file://a}"]},
            {"client_secret": SECRET, "x": None},
        ]
    ),
    st.sampled_from([[], ["http"], ["http", "tls_passthrough"]]),
)
upstreams = st.sampled_from(
    [
        {},
        {"algorithm": "least-connections", "slots": 10, "host_header": "a.org"},
        {"hash_on": "cookie", "hash_on_cookie": "c", "client_certificate": "x"},
        {"hash_on": "header", "hash_on_header": "h", "hash_fallback": "ip"},
        {"hash_on": "ip", "hash_fallback": "cookie", "hash_on_cookie": "c"},
        {
            "healthchecks": {
                "active": {"timeout": 1.5, "healthy": {"interval": 2.5}},
                "passive": {"unhealthy": {"http_statuses": [500, 700]}},
                "threshold": 5.0,
            }
        },
    ]
)
kongs = st.builds(
    lambda port, protocol, routes, plugins, service, upstream: cast(
        XKong,
        {
            "port": port,
            "protocol": protocol,
            "routes": routes,
            "plugins": plugins,
            "service": service,
            "upstream": upstream,
        },
    ),
    ports,
    st.sampled_from(["http", "https", "grpc", "tcp"]),
    st.lists(routes, max_size=3, unique_by=lambda it: it.get("name", id(it))),
    st.lists(plugins, max_size=2),
    st.sampled_from(
        [{}, {"path": "/v1", "read_timeout": 5}, {"enabled": False}, {"tls_verify": True, "client_certificate": "x"}]
    ),
    upstreams,
)


@st.composite
def services(draw: st.DrawFn, name: str) -> Service:
    environment = draw(environments)
    known = draw(st.lists(secrets, max_size=2))
    environment |= {
        f"S{number}": draw(st.sampled_from(["{}", "a:{}@b"])).format(f"{{file://{it}}}")
        for number, it in enumerate(known)
    }
    environment |= draw(
        st.sampled_from([{}, {"DB_PASSWORD": SECRET}, {"URL": f"http://u:{SECRET}@h/", "OTHER": f"x{SECRET}"}])
    )
    return Service(
        name=name,
        image="a",
        run=cast(Run, draw(runs)),
        environment=environment,
        files=tuple(draw(st.lists(files, max_size=2, unique_by=lambda it: it.target))),
        check=draw(checks),
        kong=draw(st.none() | kongs),
        replicas=draw(st.integers(1, 50)),
        update=Update(
            draw(st.sampled_from(["start-first", "stop-first"])),
            parallelism=draw(st.integers(0, 3)),
            delay=draw(seconds),
        ),
        depends_on=draw(st.dictionaries(st.just("one"), st.sampled_from(["service_healthy", "service_started"]))),
        pull_policy=draw(st.sampled_from(["missing", "always", "never"])),
        schedule=draw(st.sampled_from(["", "", "daily", "*:*:5", "Mon 03:00 Europe/London"])),
        secrets=dict.fromkeys(known, ""),
    )


@st.composite
def sources(draw: st.DrawFn) -> Source:
    app = draw(apps)
    every = draw(st.lists(names, max_size=2, unique=True).map(lambda it: list(dict.fromkeys(["one", *it]))))
    constraints = st.builds(
        Constraint,
        st.sampled_from(["node.hostname", "node.labels.role", "node.labels.!"]),
        st.booleans(),
        st.sampled_from(["a", "b", "not a label"]),
    )
    exported = [
        Exported(
            draw(services(name)),
            tuple(draw(st.lists(constraints, max_size=3))),
            tuple(draw(st.sampled_from([["h1"], ["h1", "h2"]]))),
            tuple(draw(st.sampled_from([[], ["h3"]]))),
        )
        for name in every
    ]
    volumes = draw(st.sampled_from([{}, {"shop_data": {"driver": "nfs"}, "data": {"external": True}}]))
    return Source(app, tuple(exported), volumes, suspend=draw(st.sampled_from([None, Suspension("git")])))


@given(sources())
@patient
def test_every_document_is_what_kubernetes_takes_and_has_no_secret(source: Source) -> None:
    made = export(source, Choices())
    documents = [plain(body) for body in made.documents]
    assert {f"{it['kind']} {it['metadata']['name']}": mistakes(it) for it in documents if mistakes(it)} == {}
    found = [(it["apiVersion"], it["kind"], it["metadata"]["name"]) for it in documents]
    assert len(found) == len(set(found))
    text = text_of(made)
    assert list(yaml.safe_load_all(text)) == documents
    assert SECRET not in text
    assert SECRET not in json.dumps(as_json(made))
    assert text_of(export(source, Choices())) == text


values = st.recursive(
    st.booleans()
    | st.integers()
    | texts
    | lines
    | st.sampled_from(["0o7", "1_000", "on", "1e3", "0x1f", "null", "~", "2:30"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | lines, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts | lines, values), texts)
def test_a_text_is_read_back_as_what_it_was_written_from(body: dict[Any, Any], comment: str) -> None:
    assert (yaml.safe_load(document(lost("x", comment) | body | remark(comment))) or {}) == body
    inside = {"a": [remark(comment) | body, "b"], "c": lost("x", comment) | {"d": body}}
    assert yaml.safe_load(document(inside)) == plain(inside)


@given(st.lists(texts | names, min_size=1, max_size=6, unique=True))
def test_a_name_is_one_of_kubernetes_and_two_stay_two(given_names: list[str]) -> None:
    made = unique(given_names)
    assert len(set(made.values())) == len(given_names)
    for name in given_names:
        for one, longest in (
            (label(name), 63),
            (service_label(name), 63),
            (workload_label(name), 52),
            (made[name], 63),
        ):
            assert len(one) <= longest
            assert set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
            assert one[0] != "-"
            assert one[-1] != "-"
            assert label(one) == one
        assert service_label(name)[0].isalpha()
