"""Files to compare: services of a few keys whose values are plain, odd or wrong, overrides of them, and files with a
line changed.  Made by a seed, so that a finding can be made again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import read_fleet
from gitops_mvd.manifest.asked import override_names
from tests.oracle.client import Asked
from tests.unit.memory_tree import MemoryTree
from tests.unit.test_manifest import CASES, repository

EXAMPLE = Path(__file__).parents[2] / "example-repo"
COMPOSE = "compose.yaml"

SCALARS = (
    *(
        "1",
        "0",
        "-1",
        "2.0",
        "1.10",
        "1e3",
        "08",
        "0x1F",
        "0o14",
        "010",
        "1_000",
        "2024-06-01",
        "12:30:45",
        "~",
        "null",
        '""',
    ),
    *(
        "true",
        "True",
        "yes",
        "no",
        "on",
        '"1"',
        "'x'",
        "x",
        "a b",
        "$A",
        "${A}",
        "${A:-d}",
        "${B:-}",
        "$",
        "a$",
        "$$A",
        "${U-}",
    ),
    *(
        "!!str 1",
        "!!int 3",
        "!!float 2",
        '"a\\nb"',
        "é",
        "10s",
        "1d",
        "1h30m",
        "512m",
        "1g",
        "64KiB",
        ".5",
        "host",
        "none",
    ),
)
PAIRS = ("{A: %s}", "[A=%s]", "{A: %s, B: 2}", "[A, B=%s]", "{A: , B: %s}")
KEYS: dict[str, Sequence[str]] = {
    "command": (
        "a b",
        "[a, b]",
        '""',
        "[]",
        "a 'b c' \"d\"",
        "a && b",
        "a; b",
        "echo $$(date)",
        "a\\ b",
        '"a > b"',
        "[a, $A]",
        "[1]",
    ),
    "entrypoint": ("a b", "[a, b]", '""', "[]", "a | b"),
    "environment": tuple(pairs % one for one in SCALARS for pairs in PAIRS),
    "labels": tuple(pairs % one for one in SCALARS for pairs in PAIRS[:3]),
    "annotations": ("{a: b}", "[a=b]", "{a: 1}", "{a: 2.0}"),
    "sysctls": ("{a: b}", "[a=1]", "{a: 1}", "{a: 08}"),
    "extra_hosts": (
        "{a: 1.1.1.1}",
        "[a:1.1.1.1]",
        '["a=::1"]',
        '["a:[::1]"]',
        "{a: [1.1.1.1, 2.2.2.2]}",
        "[a:1.1.1.1, a:2.2.2.2]",
    ),
    "hostname": SCALARS,
    "user": SCALARS,
    "working_dir": ("/a", '""', "a"),
    "platform": ("linux/amd64", "${B:-}"),
    "stop_signal": ("SIGINT", "9", '"9"'),
    "stop_grace_period": SCALARS,
    "init": SCALARS,
    "tty": SCALARS,
    "privileged": ("true", "false"),
    "cap_add": ("[A]", "[A, A]", "[A, B]", "A"),
    "cap_drop": ("[ALL]",),
    "security_opt": ("[a:b]", "[a=b, c]"),
    "group_add": ("[1]", '["1"]', "[a]", "[08]"),
    "dns": ("1.1.1.1", "[1.1.1.1]", "[1.1.1.1, 2.2.2.2]", '""', '["", 1.1.1.1]'),
    "dns_search": ("a.b", "[a, b]"),
    "dns_opt": ("[a, b]", "[ndots:5]"),
    "expose": ("[80]", '["80"]', '["80/udp", 90]', '["80-82"]'),
    "ports": (
        *(
            "[80]",
            '["80"]',
            '["8080:80"]',
            '["127.0.0.1:8080:80"]',
            '["[::1]:8080:80"]',
            '["80/udp"]',
            '["80-81:80-81"]',
        ),
        *("[{target: 80}]", '[{target: 80, published: "81"}]', "[{target: 80, published: 81}]", '["8080-8081:80"]'),
        *(
            '["0.0.0.0:80:80"]',
            '["80:80", "80:80"]',
            '["80:80", "80:80/udp"]',
            "[80.5]",
            '["::80"]',
            '["a:80"]',
            '["3000-3001"]',
        ),
        *("[{target: 80, host_ip: 127.0.0.1, protocol: udp, mode: host}]", '["${A}0:80"]', '[{target: "80"}]'),
    ),
    "volumes": (
        *(
            "[data:/data]",
            "[data:/data:ro]",
            "[/srv:/srv]",
            "[/srv:/srv:ro]",
            "[./site:/site:ro]",
            "[/data]",
            "[data:/data:nocopy]",
        ),
        *(
            "[{type: volume, source: data, target: /data}]",
            "[{type: tmpfs, target: /t}]",
            "[{type: tmpfs, target: /t, tmpfs: {size: 1m}}]",
        ),
        *(
            "[{type: bind, source: /srv, target: /srv, read_only: true}]",
            "[data:/a, data:/b]",
            "[data:/a, /srv:/a]",
            "[/srv:/srv:z]",
        ),
        *(
            "[/srv:/srv:rslave]",
            "[{type: volume, source: data, target: /data, volume: {nocopy: true, subpath: a}}]",
            "[data:/a/../b]",
        ),
        *("[${PWD}/site:/site:ro]", "[data:/data/]", '["/srv:/srv:ro,z"]'),
    ),
    "tmpfs": ("/t", "[/t]", "[/t:size=1m, /u]"),
    "networks": (
        "[inner]",
        "{inner: }",
        "{inner: {aliases: [a, b]}}",
        "{inner: {ipv4_address: 10.9.0.5}}",
        "[inner, default]",
    ),
    "network_mode": ("host", "none", "bridge", "weird", '""', "service:other", "service:nobody"),
    "depends_on": (
        "[other]",
        "{other: {condition: service_healthy}}",
        "{other: {condition: service_started, required: false}}",
    ),
    "healthcheck": (
        *(
            "{test: a b}",
            "{test: [CMD, a]}",
            "{test: [CMD-SHELL, a b]}",
            "{test: [NONE]}",
            "{disable: true}",
            "{test: a, interval: 5s}",
        ),
        *(
            "{test: a, interval: 1d, timeout: 1m30s, start_period: 1.5s, retries: 3}",
            '{test: a, retries: "3"}',
            "{test: [a]}",
        ),
        *("{test: NONE}", "{interval: 10}", "{test: a && b}", "{test: a, start_interval: 500ms}", '{test: ""}'),
    ),
    "logging": (
        "{driver: local}",
        "{driver: json-file, options: {max-size: 10m}}",
        "{driver: none}",
        "{driver: local, options: {max-file: 3}}",
    ),
    "ulimits": (
        "{nofile: 1024}",
        "{nofile: {soft: 1, hard: 2}}",
        '{nofile: "1024"}',
        "{nproc: 5, nofile: 6}",
        "{nofile: -1}",
    ),
    "deploy": (
        *(
            "{replicas: 2}",
            "{resources: {limits: {cpus: 1.5, memory: 512M, pids: 5}}}",
            '{resources: {limits: {cpus: "0.5"}}}',
        ),
        *(
            "{resources: {reservations: {memory: 64m}}}",
            "{update_config: {order: start-first, delay: 10s}}",
            "{mode: global}",
        ),
        *(
            "{resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}",
            "{replicas: 08}",
        ),
        *("{restart_policy: {condition: on-failure, max_attempts: 3}}", "{restart_policy: {condition: any}}"),
    ),
    "mem_limit": SCALARS,
    "shm_size": ("64m", "1g", "64M", "67108864", '"64mb"', "1.5g"),
    "cpus": ("1", "1.5", '"0.5"', ".5", "0.125", "2.0"),
    "cpu_shares": ("512", '"512"', "010", '"010"'),
    "cpuset": ("0-1", '"0"', "0,1", '"0,1"'),
    "pids_limit": ("100", "-1", '"5"'),
    "oom_score_adj": ("100", "-100"),
    "scale": ("1", '"2"', "0", "08"),
    "restart": ("always", '"no"', "no", "on-failure", "on-failure:5", "unless-stopped", '""'),
    "devices": (
        "[/dev/null]",
        "[/dev/null:/dev/n]",
        "[/dev/null:/dev/n:r]",
        "[{source: /dev/null, target: /dev/n}]",
        "[vendor.com/gpu=0]",
    ),
    "gpus": ("all", "[{count: 1}]", "[{driver: nvidia, count: all}]"),
    "blkio_config": ("{weight: 300}", "{device_read_bps: [{path: /dev/sda, rate: 1mb}]}"),
    "storage_opt": ("{size: 1G}", "{size: 2.0}"),
    "configs": ("[site]", "[{source: site, target: /a}]", '[{source: site, mode: 0440, uid: "1"}]'),
    "secrets": ("[key]", "[{source: key, target: k}]"),
    "env_file": (
        "web.env",
        "[web.env, more.env]",
        "[{path: web.env, required: true}]",
        "[{path: no.env, required: false}]",
    ),
    "label_file": ("labels.env",),
    "extends": ("{service: other}", "{service: base, file: base.yaml}", "other"),
    "profiles": ("[debug]",),
    "pull_policy": ("always", "missing", "if_not_present"),
    "container_name": ("web", "my-web", '""', "a/b"),
    "links": ("[other]", "[other:alias]", "[nobody]", "[other, other:b]"),
    "ipc": ("host", "shareable", "service:other", "private"),
    "pid": ("host", "service:other", "service:nobody"),
    "build": (".", "{context: .}"),
    "attach": ("false", "true", '"false"'),
    "domainname": ("a.b", '""'),
    "userns_mode": ("host", '""'),
    "cgroup": ("host", "private"),
    "mac_address": ("02:42:ac:11:00:02",),
    "memswap_limit": ("-1", "2g", '"-1"'),
    "device_cgroup_rules": ('["c 1:3 mr"]',),
    "x-other": ("{a: 2.0}", "1"),
    "image": ("nginx", "nginx:1.27", "a/b:c", "nginx:${A}", "1.5", '"1"', "nginx@sha256:" + "a" * 64),
}
ENV_LINES = (
    *(
        "A=1",
        "B=two words",
        "C='single $A'",
        'D="double\\n$A"',
        "E=${A:-x}",
        "export F=1",
        "G: yaml",
        "H",
        "I=",
        "J= # c",
        "K=x # c",
    ),
    *(
        "L=x#c",
        "M=#c",
        'N="several\nlines"',
        "O='several\nlines'",
        "P=$U",
        "Q=\\d",
        'R="\\d"',
        "S=$",
        "T=a=b",
        " V = w ",
        "# c",
        "",
    ),
)
REST = """
  other:
    image: redis
    environment: {OTHER: 1, A: other}
    command: [serve, now]
    labels: [other=1]
networks:
  inner: {ipam: {config: [{subnet: 10.9.0.0/24}]}}
volumes:
  data: {labels: {a: b}}
configs: {site: {file: ./site/index.html}}
secrets: {key: {file: ./key.pem}}
"""


def fixtures() -> Iterator[tuple[str, Asked]]:
    """The apps of the valid manifests of the unit tests and of the example, for each host, with a name."""
    trees = {case.stem: repository(case).files for case in sorted(CASES.glob("valid/*.yaml"))}
    trees["example"] = {
        str(path.relative_to(EXAMPLE)): path.read_bytes() for path in EXAMPLE.rglob("*") if path.is_file()
    }
    for name, files in trees.items():
        tree = MemoryTree(files)
        texts = {path: text.decode(errors="replace") for path, text in files.items()}
        for host, facts in (read_fleet(tree).hosts or {"": HostFacts("")}).items():
            for app in {path.split("/")[1] for path in files if path.endswith(f"/{COMPOSE}")}:
                overrides = (f"apps/{app}/{file}" for file in sorted(override_names(facts)))
                compose = [f"apps/{app}/{COMPOSE}", *(path for path in overrides if path in files)]
                yield (
                    f"{name} on {host}, {app}" if host else f"{name}, {app}",
                    Asked(texts, app, compose, facts.variables),
                )


def made(random: Random) -> Asked:
    """An app of one service with a few keys, alone or with an override."""
    files = {
        "apps/demo/compose.yaml": "services:\n  web:\n" + _service(random, ["image"]) + REST,
        "apps/demo/site/index.html": "hello",
        "apps/demo/key.pem": "secret",
        "apps/demo/base.yaml": "services:\n  base:\n" + _service(random, ["image"]).replace("extends:", "x-extends:"),
        **{f"apps/demo/{name}.env": _env_file(random) for name in ("web", "more")},
        "apps/demo/labels.env": "from=file\nother=2\n",
    }
    if random.random() < 0.5:
        files["apps/demo/.env"] = _env_file(random)
    compose = ["apps/demo/compose.yaml"]
    if random.random() < 0.5:
        files["apps/demo/compose.site-uk.yaml"] = "services:\n  web:\n" + (_service(random, []) or "    tty: true\n")
        compose.append("apps/demo/compose.site-uk.yaml")
    return Asked(files, compose=compose, variables={"A": "7", "H": "host"})


_PIECES = {
    "scalar": "0 1 2 8 9 . _ e E + - x 0x 0o 0b 2024 -06 -01 T : 12:30:45 Z .5 .inf .nan true a f 1e6 000 123456 null",
    "text": "$ $ { } ${ } A B U :- - :+ + :? ? x 1 . $$ ${A:- ${U:- ${B {} {{ }} / : # $A $U",
    "words": "a b ' \" ` $ ( ) $( \\ \\\" ; && | < 2> # - = é '' \"\" \\'",
    "env": '= K J A " \' \\ # x $ ${ } $A $$ :- : export \\n \\" \\\' \\$ \\0 123 . - [ é / K=" K= U',
}


def of_text(random: Random) -> Asked:
    """An app of one odd text: a scalar, one with variables, a command, or an env file."""
    kind = random.choice(sorted(_PIECES))
    between = [""] if kind == "scalar" else ["", "", " ", "\n", "\t"]
    text = "".join(random.choice(_PIECES[kind].split()) + random.choice(between) for _ in range(random.randint(1, 10)))
    keys = {
        "scalar": f"environment: {{A: {text}}}",
        "text": f"environment: {{A: {json.dumps(text)}}}",
        "words": f"command: {json.dumps(text.replace('$', '$$'))}",
        "env": "env_file: web.env",
    }
    files = {"apps/demo/compose.yaml": f"services:\n  web:\n    image: nginx\n    {keys[kind]}\n"}
    return Asked({**files, "apps/demo/web.env": f"{text}\n"}, variables={"A": "va", "B": ""})


def _service(random: Random, always: Sequence[str]) -> str:
    keys = [*always, *random.sample([key for key in KEYS if key not in always], random.randint(1, 4))]
    return "".join(
        f"    {key}: {random.choice(KEYS[key]) if key != 'image' or random.random() < 0.2 else 'nginx'}\n"
        for key in keys
    )


def _env_file(random: Random) -> str:
    return "".join(f"{line}\n" for line in random.sample(ENV_LINES, random.randint(0, 5)))


def changed(random: Random, asked: Asked) -> Asked:
    """The same app with a line of one of its Compose files changed."""
    path = random.choice(asked.compose)
    lines = asked.files[path].split("\n")
    at = random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[random.randrange(len(lines))])
        case 2:
            key, colon, _ = lines[at].partition(": ")
            lines[at] = f"{key}{colon}{random.choice(SCALARS)}" if colon else lines[at]
        case _:
            lines[at] = lines[at].replace(random.choice("aeiou:-"), random.choice(["", " ", "$", "x"]), 1)
    return asked._replace(files={**asked.files, path: "\n".join(lines)})
