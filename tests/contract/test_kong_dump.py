"""`mvd kong dump`: what a Kong has becomes files that say the same, in both of its modes."""

from __future__ import annotations

import json
import stat
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mvd.cli.main import mvd
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, HostFacts
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.migrate import export
from gitops_mvd.kong.migrate.accepted import Document, Item, prune_files
from gitops_mvd.kong.migrate.adopt import Adoptions, plan
from gitops_mvd.kong.schema import Schemas
from gitops_mvd.manifest import load, validate
from gitops_mvd.secrets.store import Secrets
from tests.contract.kong_documents import SECRETS, UPSTREAMS, a_kong, entity, everything, id_of, ref, seed
from tests.contract.test_kong_client import HOST, Gateway, apply, service

BY_NAME = {"plugin key-auth": ["config.anonymous"]}  # the consumer that was named by its id


def run(gateway: Gateway, *words: str) -> Result:
    return CliRunner().invoke(mvd, ["kong", "dump", "--admin", gateway.admin, *words], catch_exceptions=False)


def apps(folder: Path) -> tuple[App, ...]:
    assert validate(FolderTree(folder)) == []
    found, broken = load(FolderTree(folder), HostFacts(HOST))
    assert not broken
    return found


def compared(gateway: Gateway, folder: Path, secrets: Secrets | None = None) -> Adoptions:
    """What the files say beside what the gateway has."""
    kong = Kong(gateway.admin)
    routes = Routes(None, HOST, secrets=secrets)
    declared = [it for app in apps(folder) for wanted in routes.wanted(app) for it in wanted.payload]
    found = plan(HOST, declared, kong.all(), Schemas(kong.schema))
    assert len(declared) == len(found.adopted) + len(found.refused)
    return found


def test_the_files_say_what_was_found(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, a_kong())
    before = everything(gateway)
    result = run(gateway, str(tmp_path), "--with-secrets")
    assert result.exit_code == 0
    assert everything(gateway) == before
    found = compared(gateway, tmp_path)
    changed = {str(it.found): [*it.changes] for it in found.adopted if it.changes or it.undeclared}
    assert changed == BY_NAME
    assert found.refused == []
    left = before.keys() - {f"{it.found.type} {it.found.id}" for it in found.adopted}
    assert left == {f"basicauth_credentials {id_of('basic')}"}
    assert "mobile-login: Kong only has the hash of the password" in result.stderr
    assert "mobile-login" in (tmp_path / "kong/consumers.yaml").read_text().splitlines()[0]


def test_the_files_read_as_a_person_would_have_written_them(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, a_kong())
    run(gateway, str(tmp_path))
    services = yaml.safe_load((tmp_path / "kong/services.yaml").read_text())["services"]
    services = [it for it in services if it.get("name") != "near"]
    assert services == [
        {
            "host": "10.0.0.9",
            "port": 8080,
            "routes": [{"hosts": ["a.example.org", "*.b.example.org"], "tags": ["deck", "team-a"]}],
            "tags": ["deck", "team-a"],
        },
        {
            "name": "far",
            "protocol": "https",
            "host": "api.example.org",
            "port": 443,
            "retries": 0,
            "plugins": [{"name": "key-auth", "config": {"anonymous": "ussd"}, "tags": ["deck", "team-a"]}],
        },
        {
            "name": "legacy",
            "host": "127.0.0.1",
            "port": 9,
            "path": "/v1",
            "read_timeout": 5000,
            "routes": services[2]["routes"],
            "tags": ["deck", "team-a"],
        },
    ]
    assert [route["name"] for route in services[2]["routes"]] == ["legacy-main", "plain"]


def test_secrets_become_references_and_lie_elsewhere(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, a_kong())
    result = run(gateway, str(tmp_path / "repository"), "--secrets", str(tmp_path / "secrets"))
    texts = [file.read_text() for file in (tmp_path / "repository/kong").iterdir()]
    assert [secret for secret in SECRETS if any(secret in text for text in texts)] == []
    assert "PRIVATE KEY" not in "".join(texts) + result.output
    hidden = {file.name: file for file in (tmp_path / "secrets").iterdir()}
    assert {stat.S_IMODE(file.stat().st_mode) for file in hidden.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert hidden["kong-mobile-app-key"].read_text() == "key-of-mobile-1\n"
    assert "Authorization:{file://kong-legacy-plain-request-transformer-Authorization}" in "".join(texts)
    assert {name for name in hidden if f"{{file://{name}}}" in "".join(texts)} == hidden.keys()
    assert all(any(secret in file.read_text() for file in hidden.values()) for secret in SECRETS)
    secrets = Secrets(tmp_path / "secrets")
    found = compared(gateway, tmp_path / "repository", secrets)
    assert {str(it.found): [*it.changes] for it in found.adopted if it.changes} == BY_NAME


def test_without_a_folder_for_secrets_they_stay_in_kong(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, a_kong())
    result = run(gateway, str(tmp_path))
    assert "--secrets FOLDER writes them, too" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kong"]
    assert not [secret for secret in SECRETS if secret in result.output]


def test_nothing_is_written_over_unless_by_force(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, a_kong())
    (tmp_path / "kong").mkdir()
    (tmp_path / "kong/plugins.yaml").write_text("mine")
    with pytest.raises(StepFailed, match=r"cannot write .*plugins\.yaml"):
        run(gateway, str(tmp_path))
    assert [path.name for path in (tmp_path / "kong").iterdir()] == ["plugins.yaml"]
    assert (tmp_path / "kong/plugins.yaml").read_text() == "mine"
    assert run(gateway, str(tmp_path), "--force").exit_code == 0
    assert "correlation-id" in (tmp_path / "kong/plugins.yaml").read_text()


def test_a_dash_prints_one_file_that_is_a_good_one(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, a_kong())
    printed = run(gateway, "-", "--with-secrets").stdout
    (tmp_path / "kong").mkdir()
    (tmp_path / "kong/kong.yaml").write_text(printed)
    assert {str(it.found): [*it.changes] for it in compared(gateway, tmp_path).adopted if it.changes} == BY_NAME


def test_what_is_managed_is_not_in_it(gateway: Gateway, tmp_path: Path) -> None:
    apply(Routes(Kong(gateway.admin), HOST), App("shop", (service(plugins=[{"name": "cors"}]),)))
    result = run(gateway, str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert result.output == ""


def test_a_plugin_of_theirs_on_a_service_of_ours_is_told(gateway: Gateway, tmp_path: Path) -> None:
    apply(Routes(Kong(gateway.admin), HOST), App("shop", (service(),)))
    theirs = {"name": "key-auth", "service": {"id": gateway.all("services")[0]["id"]}, "tags": ["deck"]}
    if gateway.mode == "off":
        document = gateway.config()
        document["plugins"] = [{**theirs, "service": theirs["service"]["id"]}]
        gateway.load({**document, "_transform": False})
    else:
        gateway.ask("POST", "/plugins", json=theirs)
    result = run(gateway, str(tmp_path))
    assert (
        result.stderr
        == "plugin key-auth: belongs to the managed service mvd.shop.web; declare it in the x-kong of that\n"
    )


def test_what_the_reader_does_not_take_is_left_out_and_told(gateway: Gateway, tmp_path: Path) -> None:
    document = a_kong()
    document["services"].append(entity("odd", name="odd", host="odd.example.org", tags=["app:mine", "kept"]))
    seed(gateway, document)
    result = run(gateway, str(tmp_path), "--with-secrets")
    assert "left out: services odd tags 1: begins with `app:`" in result.stderr
    apps(tmp_path)
    odd = next(
        it
        for it in yaml.safe_load((tmp_path / "kong/services.yaml").read_text())["services"]
        if it.get("name") == "odd"
    )
    assert odd == {"name": "odd", "host": "odd.example.org", "tags": ["kept"]}


def test_a_service_is_printed_as_x_kong(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, UPSTREAMS)
    result = run(gateway, "--x-kong", "chat")
    assert "127.0.0.1:7799" in result.stdout.splitlines()[0]
    x_kong = yaml.safe_load(result.stdout)["x-kong"]
    assert x_kong["port"] == 7799
    (tmp_path / "apps/chat").mkdir(parents=True)
    compose = {"services": {"web": {"image": "chat:1", "x-kong": x_kong}}}
    (tmp_path / "apps/chat/compose.yaml").write_text(json.dumps(compose))
    (app,) = apps(tmp_path)
    kong: Any = app.services[0].kong
    assert kong["upstream"] == {"slots": 100, "algorithm": "least-connections", "tags": ["deck", "team-a"]}
    assert kong["service"] == {"read_timeout": 90000, "tags": ["deck", "team-a"]}
    assert [(route["paths"], plugin["name"]) for route in kong["routes"] for plugin in kong["plugins"]] == [
        (["/chat"], "key-auth")
    ]


def test_a_service_that_is_not_there_is_told_with_those_that_are(gateway: Gateway) -> None:
    seed(gateway, UPSTREAMS)
    with pytest.raises(StepFailed, match=r"Kong has no service chatt \(it has chat\)"):
        run(gateway, "--x-kong", "chatt")


def test_a_key_that_expires_is_not_made_to_last_for_ever(gateway: Gateway, tmp_path: Path) -> None:
    seed(gateway, {"consumers": [entity("mobile", username="mobile-app")]})
    if gateway.mode == "off":
        pytest.skip("a Kong without a database has no times to live")
    gateway.ask("POST", "/consumers/mobile-app/key-auth", json={"key": "short-lived", "ttl": 60})
    assert "expires by itself" in run(gateway, str(tmp_path), "--with-secrets").stderr
    assert "short-lived" not in (tmp_path / "kong/consumers.yaml").read_text()


texts = st.sampled_from(
    ["on", "12:30", "0x10", "1e3", "0o17", "~", "null", "a: b", "#x", "ü", "2001-01-01", "'", '"', "x\ny"]
)
words = st.sampled_from(["on", "0x10", "1e3", "0o17", "null", "2001-01-01", "x_y", "a.b~c"])
kongs = st.builds(
    lambda consumers, services, plugins: {
        "consumers": [entity(f"c{n}", username=name) for n, name in enumerate(consumers)],
        "keyauth_credentials": [
            entity(f"k{n}", key=f"{name} key", consumer=ref(f"c{n}")) for n, name in enumerate(consumers)
        ],
        "services": [entity(f"s{n}", name=name, **more) for n, (name, more) in enumerate(services.items())],
        "routes": [
            entity(f"r{n}", name=f"{name}-r", service=ref(f"s{n}"), paths=["/a"], hosts=[f"h{n}.test"])
            for n, name in enumerate(services)
        ],
        "plugins": [entity(f"p{n}", name=name, config=config) for n, (name, config) in enumerate(plugins.items())],
    },
    st.lists(texts, unique=True, max_size=3),
    st.dictionaries(
        words,
        st.fixed_dictionaries(
            {"host": st.just("h.test")},
            optional={"retries": st.integers(0, 5), "port": st.sampled_from([80, 443]), "path": st.just("/1e3")},
        ),
        max_size=3,
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "response-transformer": texts.filter(str.isprintable).map(
                lambda text: {"add": {"headers": [f"X-Y:{text}"]}}
            ),
            "cors": st.fixed_dictionaries(
                {}, optional={"max_age": st.sampled_from([3600, 0.5]), "origins": st.just(["*"])}
            ),
            "rate-limiting": st.just({"minute": 5, "policy": "local"}),
        },
    ),
)


@given(document=kongs)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_there_the_files_say_it(
    gateway: Gateway, tmp_path_factory: pytest.TempPathFactory, document: Any
) -> None:
    gateway.clear()
    seed(gateway, document)
    folder = tmp_path_factory.mktemp("repository")
    dumped = export.dump(Kong(gateway.admin), clear=True)
    export.write(dumped, folder, None, force=False)
    found = compared(gateway, folder)
    assert dumped.notes == []
    assert not found.refused
    assert len(found.adopted) == len(everything(gateway))
    assert not [it for it in found.adopted if it.changes or it.undeclared]


def test_a_way_to_the_admin_api_is_left_out_whole_and_the_rest_is_kept() -> None:
    log: Item = {"name": "http-log", "config": {"http_endpoint": "http://localhost:8001/services"}}
    far: Item = {"name": "far", "host": "api.example.org", "plugins": [log, {"name": "key-auth"}]}
    document: Document = {"services": [{"name": "admin", "host": "127.0.0.1", "port": 8001}, far]}
    notes: dict[str, list[str]] = defaultdict(list)
    prune_files({"services.yaml": document}, notes)
    kept = {"name": "far", "host": "api.example.org", "plugins": [{"name": "key-auth"}]}
    assert document == {"services": [kept]}
    assert [note.partition(": leads")[0] for note in notes["services"]] == [
        "left out: services admin",
        "left out: services far plugins http-log",
    ]
