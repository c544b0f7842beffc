"""Whatever a repository holds: values come through unchanged, and mistakes are problems, never exceptions."""

import contextlib
from collections.abc import Mapping

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitops_mvd.config.yamltree import Node, Sink, parse
from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import load, validate
from gitops_mvd.manifest.compose import SERVICE
from gitops_mvd.manifest.dotenv import parse_env
from gitops_mvd.manifest.interpolate import Unresolved, Variables, substitute
from gitops_mvd.manifest.kong_entities import CONSUMER, GATEWAY_PLUGIN
from gitops_mvd.manifest.kong_fields import KONG_PLUGIN, KONG_ROUTE, KONG_UPSTREAM
from tests.unit.memory_tree import MemoryTree

sparing = settings(max_examples=settings.default.max_examples // 2)  # whole repositories take long

HOST = HostFacts("web1", {"region": "uk"}, {"A": "1"})

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
hostile = st.text(st.sampled_from("${}:?+-AB \n'\"#=\\[]&*!<|>%@`,~\t0"), max_size=40)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | hostile,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*SERVICE, "services", "web", "x"]) | hostile, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(texts, st.dictionaries(names, texts))
@sparing
def test_what_is_escaped_comes_back(text: str, variables: Mapping[str, str]) -> None:
    assert substitute(text.replace("$", "$$"), Variables(variables)) == text


@given(names, texts)
def test_a_variable_becomes_its_value_and_no_more(name: str, value: str) -> None:
    known = Variables({name: value})
    assert substitute(f"${{{name}}}|${name}|${{{name}-x}}", known) == f"{value}|{value}|{value}"
    assert substitute(f"${{{name}:-x}}|${{{name}:+y}}", known) == (f"{value}|y" if value else "x|")


@given(hostile, st.dictionaries(names, texts))
@example("${A:-" * 20000, {})
@example("$A" * 2000, {"A": "a" * 2000})
@sparing
def test_no_text_breaks_the_interpolation(text: str, variables: Mapping[str, str]) -> None:
    with contextlib.suppress(Unresolved):
        assert len(substitute(text, Variables(variables))) <= 1 << 20


@given(st.dictionaries(names, texts))
def test_an_env_file_in_single_quotes_is_literal(variables: Mapping[str, str]) -> None:
    quoted = {name: value.replace("'", "").rstrip("\\") for name, value in variables.items()}
    lines = "".join(f"{name}='{value}'\n" for name, value in quoted.items())
    sink: Sink = []
    assert parse_env("env", lines.encode(), {}, sink) == quoted
    assert sink == []


@given(st.binary() | hostile.map(str.encode))
def test_no_env_file_breaks_the_parser(data: bytes) -> None:
    sink: Sink = []
    for name, value in parse_env("env", data, {}, sink).items():
        assert name
        assert "\0" not in value


@given(st.binary() | hostile.map(str.encode) | documents.map(lambda it: yaml.safe_dump(it).encode()))
@example(b"[" * 100_000)
@example(b"{a: " * 100_000)
@example(b"- " * 100_000)
@example(b"a: &a [*a]")
@example(b"".join(b"a%d: &a%d [*a%d]\n" % (n + 1, n + 1, n) for n in range(500)).replace(b"*a0", b"0", 1))
@example(b"<<: [{a: 1}, 5]")
@example(b"? {a: 1}\n: 2")
@example(b'a: "\\0"')
@example(b"a: 1e999\nb: " + b"9" * 10_000)
@example(b"%YAML 3.0\n---\na: 1")
@sparing
def test_no_yaml_breaks_the_parser(data: bytes) -> None:
    sink: Sink = []
    node = parse("x.yaml", data, sink)
    assert node is None or isinstance(node, Node)
    assert all(it.problem.line >= 1 for it in sink)


@given(documents, documents)
@sparing
def test_no_manifest_raises(service: object, over: object) -> None:
    tree = MemoryTree(
        {
            "apps/a/compose.yaml": yaml.safe_dump({"services": {"web": service}}),
            "apps/a/compose.region-uk.yaml": yaml.safe_dump({"services": {"web": over}}),
            "apps/b/compose.yaml": yaml.safe_dump(over),
            "apps/c/compose.yaml": "services: {web: {image: nginx}}",
        }
    )
    apps, broken = load(tree, HOST)
    assert "c" in {app.name for app in apps}
    assert all(broken.values())
    validate(tree)


@given(st.sampled_from(sorted(SERVICE)), documents)
@sparing
def test_no_value_of_any_key_raises(key: str, value: object) -> None:
    text = yaml.safe_dump({"services": {"web": {"image": "nginx", key: value}, "two": {"image": "two"}}})
    tree = MemoryTree({"apps/a/compose.yaml": text, "kong/a.yaml": yaml.safe_dump({"consumers": value})})
    load(tree, HOST)
    validate(MemoryTree({**{p: t for p, t in tree.files.items()}, "fleet.yaml": yaml.safe_dump({"hosts": value})}))


@given(st.sampled_from([*KONG_ROUTE, *KONG_PLUGIN, *KONG_UPSTREAM, *CONSUMER, *GATEWAY_PLUGIN]), documents)
@sparing
def test_no_value_of_any_field_of_kong_raises(field: str, value: object) -> None:
    entity = {"name": "x", "paths": ["/x"], "host": "x", field: value}
    kong = {"port": 80, "routes": [entity, value], "plugins": [entity, value], "service": entity, "upstream": entity}
    gateway = {kind: [entity, value] for kind in ("consumers", "plugins", "services", "certificates", "vaults")}
    tree = MemoryTree(
        {
            "apps/a/compose.yaml": yaml.safe_dump({"services": {"web": {"image": "nginx", "x-kong": kong}}}),
            "kong/a.yaml": yaml.safe_dump(gateway),
        }
    )
    load(tree, HOST)
    validate(tree)
