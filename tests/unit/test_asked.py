"""A reading is shared by hosts that answer the same, and is the one that each of them would have made for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import Cache, load
from gitops_mvd.manifest.asked import Asked
from gitops_mvd.manifest.reading import Reading, read_app, read_for_all
from tests.unit.memory_tree import MemoryTree

LABELS = ["role", "zone", "a-b", "a"]
VARIABLES = ["A", "B", "LEVEL", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "PWD"]
WORDS = ["x", "y", "b-c", "c", "8080"]
often = settings(max_examples=6 * settings.default.max_examples)

facts = st.builds(
    HostFacts,
    st.sampled_from(["web1", "web2", "web3"]),
    st.dictionaries(st.sampled_from(LABELS), st.sampled_from(WORDS), max_size=3),
    st.dictionaries(st.sampled_from(VARIABLES), st.sampled_from([*WORDS, "dev", "$A"]), max_size=4),
    st.sampled_from([frozenset[str](), frozenset({"a"}), frozenset({"b"})]),
)


def fleet(base: HostFacts, changes: list[tuple[str, str, str]]) -> list[HostFacts]:
    """Hosts of which each differs from the first one in one label or variable."""
    hosts = [base]
    for kind, name, value in changes:
        known = {name: it for name, it in getattr(base, kind).items() if it != value}  # or it goes away
        hosts.append(
            replace(base, **{kind: known if len(known) < len(getattr(base, kind)) else {**known, name: value}})
        )
    return hosts


changes = st.one_of(
    st.tuples(st.just("labels"), st.sampled_from(LABELS), st.sampled_from(WORDS)),
    st.tuples(st.just("variables"), st.sampled_from(["A", "B", "LEVEL"]), st.sampled_from(WORDS)),
)
hosts = st.builds(fleet, facts, st.lists(changes, max_size=6)) | st.lists(facts, min_size=1, max_size=8)
values = st.sampled_from(
    ["plain", "$A", "${A:-x}", "${A-$B}", "${B:+y}", "${LEVEL:?say how}", "$PWD/x", "${COMPOSE_PROJECT_NAME}", "$$A"]
)
constraints = st.one_of(
    st.builds(
        lambda label, equal, word: f"node.labels.{label} {equal} {word}",
        st.sampled_from([*LABELS, "${A:-role}"]),
        st.sampled_from(["==", "!="]),
        st.sampled_from(["x", "y", "${B:-x}", "$LEVEL"]),
    ),
    st.sampled_from(["node.hostname == web1", "node.hostname != web2", "node.hostname == $A"]),
)
services = st.fixed_dictionaries(
    {"image": st.sampled_from(["nginx", "nginx:${LEVEL:-1}"])},
    optional={
        "environment": st.lists(st.sampled_from(["A", "B", "C=$A", "D=${LEVEL:-z}", "A=own"]), max_size=3, unique=True),
        "env_file": st.just("environment"),
        "command": values,
        "ports": st.lists(st.sampled_from(["${A:-80}:80", "9000:9000", "$LEVEL:1"]), max_size=2, unique=True),
        "profiles": st.lists(st.sampled_from(["dev", "x"]), max_size=1),
        "volumes": st.just(["data:/data"]),
        "deploy": st.fixed_dictionaries({"placement": st.fixed_dictionaries({"constraints": st.lists(constraints)})}),
        "x-kong": st.just({"port": 80, "routes": [{"paths": ["/${B:-b}"]}]}),
    },
)
files = st.builds(
    lambda main, over, env, environment, more: {
        "apps/a/compose.yaml": yaml.safe_dump(
            {"services": main, "volumes": {"data": {}}, **({"configs": {"c": {"environment": "A"}}} if more else {})}
        ),
        **{f"apps/a/compose.{name}": yaml.safe_dump({"services": it}) for name, it in over.items()},
        **({"apps/a/.env": env} if env else {}),
        "apps/a/environment": environment,
        "apps/b/compose.yaml": "services: {web: {image: b, ports: ['9000:80']}}",
    },
    st.dictionaries(st.sampled_from(["web", "db"]), services, min_size=1),
    st.dictionaries(
        st.sampled_from(["role-x.yaml", "a-b-c.yaml", "zone-y.yml", "override.yaml"]),
        st.dictionaries(st.sampled_from(["web", "db"]), services, min_size=1, max_size=1),
        max_size=2,
    ),
    st.sampled_from(["", "A=from env\n", "LEVEL=${B}\nB=1\n", "COMPOSE_PROFILES=dev\nCOMPOSE_FILE=x\n"]),
    st.sampled_from(["E=1\n", "E=$A\nF=${E}\n", "A\nB=${LEVEL:-1}\n"]),
    st.booleans(),
)


def of(reading: Reading) -> object:
    """What follows from a reading, without where its values lie in memory and how much was read for it."""
    claims = [replace(claim, at=None) for claim in reading.claims]  # type: ignore[arg-type]
    constraints = {name: [it for _, it in placed] for name, placed in reading.constraints.items()}
    routed = reading.routed, reading.routed_here
    aliases = [alias._replace(at=None) for alias in reading.aliases]  # type: ignore[arg-type]
    return reading.app, reading.found, reading.elsewhere, reading.runs, claims, constraints, routed, aliases


@given(files, hosts)
@often
def test_each_host_gets_the_reading_that_it_would_make_for_itself(
    files: Mapping[str, str], hosts: list[HostFacts]
) -> None:
    tree = MemoryTree(files)
    shared = read_for_all(tree, "a", hosts, {})
    alone = [read_app(tree, "a", Asked(facts), {}) for facts in hosts]
    assert [*map(of, shared)] == [*map(of, alone)]


@given(files, facts)
@often
def test_of_an_app_that_runs_elsewhere_nothing_is_missed(files: Mapping[str, str], facts: HostFacts) -> None:
    tree = MemoryTree(files)
    whole = read_app(tree, "a", Asked(facts), {})
    brief = read_app(tree, "a", Asked(facts), {}, elsewhere_too=False)
    if whole.runs:
        assert of(brief) == of(whole)
    else:
        parts = [(it.app, it.problems, it.notes, it.claims, it.aliases, it.routed, it.runs) for it in (brief, whole)]
        assert parts[0] == parts[1]


@given(files, files, hosts, st.data())
@often
def test_what_was_read_before_is_what_would_be_read_now(
    files: Mapping[str, str], others: Mapping[str, str], hosts: list[HostFacts], data: st.DataObject
) -> None:
    """One host, whose facts and files change: all readings are kept under its one name."""
    cache: Cache = {}
    for facts in (replace(facts, name="web1") for facts in hosts):
        tree = MemoryTree(data.draw(st.sampled_from([files, others])))
        assert load(tree, facts, cache) == load(tree, facts)


def test_an_app_is_read_once_for_hosts_that_differ_in_what_it_does_not_ask_for() -> None:
    text = "services: {web: {image: 'a:$TAG', deploy: {placement: {constraints: ['node.labels.role == web']}}}}"
    hosts = [
        HostFacts(f"host{n}", {"role": role, "n": str(n)}, {"TAG": "1", "N": str(n)})
        for n, role in enumerate(["web", "db", "ai", "web", "web"])
    ]
    readings = read_for_all(MemoryTree({"apps/a/compose.yaml": text}), "a", hosts, {})
    assert [bool(reading.app.services) for reading in readings] == [True, False, False, True, True]
    assert len({id(reading) for reading in readings}) == 2


PORTS = "ports: ['1-40000:1-40000', '1-40000:1-40000/udp']"
MANY = {f"apps/a/data/{n}": "" for n in range(11_000)}
LARGE = {f"apps/a/{n}.txt": "x" * (3 << 20) for n in range(3)}
CONFIGS = "configs: {" + ", ".join(f"c{n}: {{file: {n}.txt}}" for n in range(3)) + "}\n"
LINES = {"apps/a/env": "A=1\n" * 60_000}


@pytest.mark.parametrize(
    ("keys", "more", "files", "why"),
    [
        (PORTS, "", {}, "ports"),
        ("volumes: ['./data:/data']", "", MANY, "10,000 names"),
        ("configs: [c0]", CONFIGS, LARGE, "8 MiB"),
        ("env_file: [env, env]", "", LINES, "100,000 variables"),
        ("label_file: [env, env]", "", LINES, "100,000 variables"),
    ],
)
def test_an_app_of_another_host_that_is_too_large_is_broken_on_this_one_too(
    keys: str, more: str, files: Mapping[str, str], why: str
) -> None:
    there = "deploy: {placement: {constraints: [node.hostname == web2]}}"
    text = f"services:\n  web:\n    image: a\n    {there}\n    {keys}\n{more}"
    tree = MemoryTree({"apps/a/compose.yaml": text, **files})
    apps, broken = load(tree, HostFacts("web1"))
    assert not apps
    [problem] = broken["a"]
    assert why in problem.message
