"""A secret in every place where a user may put one; everything fails with all of them; and nobody reads one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from gitops_mvd.daemon.connections import read_secret
from tests.contract.sinks import KINDS, WHERE, Sinks

# sdnotify leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PLACES = [
    *("environment", "environment_plain", "env_file", "url_in_environment", "secret_file"),
    *("secret_line", "config_file", "label", "command", "entrypoint", "healthcheck", "logging", "sysctl", "volume"),
    *("probe_query", "plugin", "consumer_key", "kong_secret", "service_secret", "git_token", "forge_token"),
    *("registry", "webhook", "kong_token"),
]
OF_THE_HOST = ("git_token", "forge_token", "registry", "webhook", "kong_token")


def canary(place: str) -> str:
    """A value that no other place has, with characters that each encoding writes in its own way."""
    number = PLACES.index(place)
    letter = "a" if place in OF_THE_HOST else "ä"  # tokens are ASCII
    return f"Cn{number:02d}w7/Q{number * 7919 % 1000:03d}+{letter}=kz{number:02d}"


CANARIES = {place: canary(place) for place in PLACES} | {"environment_plain": "4f1a9c77e0b35d28"}
SERVICE: dict[str, Any] = {
    "image": "registry.local/shop@sha256:" + "0" * 64,
    "environment": {
        "DB_PASSWORD": CANARIES["environment"],
        "SOMETHING": CANARIES["environment_plain"],
        "DATABASE_URL": f"postgres://app:{quote(CANARIES['url_in_environment'], safe='')}@db/x",
        "FROM_HOST": "{file://db}",
    },
    "env_file": "environment.env",
    "command": ["serve", "--password", CANARIES["command"]],
    "entrypoint": ["/run", f"--api-key={CANARIES['entrypoint']}"],
    "labels": {"com.example.password": CANARIES["label"]},
    "healthcheck": {"test": ["CMD", "ask", f"--token={CANARIES['healthcheck']}"]},
    "logging": {"driver": "splunk", "options": {"splunk-token": CANARIES["logging"]}},
    "sysctls": {"net.core.secret": CANARIES["sysctl"]},
    "secrets": ["file"],
    "configs": [{"source": "conf", "target": "/etc/shop.conf"}],
    "volumes": ["share:/share"],
    "x-mvd": {"health": {"http": f"/health?access_token={quote(CANARIES['probe_query'], safe='')}", "port": 80}},
    "x-kong": {
        "port": 80,
        "paths": ["/shop"],
        "plugins": [{"name": "key-auth"}, {"name": "session", "config": {"secret": CANARIES["plugin"]}}],
    },
}
FILES = {
    "apps/shop/compose.yaml": yaml.safe_dump(
        {
            "services": {"web": SERVICE},
            "secrets": {"file": {"file": "secret"}},
            "configs": {"conf": {"file": "shop.conf"}},
            "volumes": {"share": {"driver_opts": {"type": "cifs", "o": f"username=u,password={CANARIES['volume']}"}}},
        },
        allow_unicode=True,
    ),
    "apps/shop/environment.env": f"API_TOKEN={CANARIES['env_file']}\n",
    "apps/shop/secret": f"{CANARIES['secret_file']}\n{CANARIES['secret_line']}\n",
    "apps/shop/shop.conf": f"level = info\npassword = {CANARIES['config_file']}\n",
    "kong/consumers.yaml": yaml.safe_dump(
        {
            "consumers": [
                {"username": "a", "keyauth_credentials": [{"key": CANARIES["consumer_key"]}, {"key": "{file://key}"}]}
            ]
        },
        allow_unicode=True,
    ),
}


@pytest.fixture
def sinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sinks]:
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    held = {
        **{"db": "service_secret", "key": "kong_secret", "git": "git_token", "forge": "forge_token"},
        **{"registry": "registry", "webhook": "webhook", "kong": "kong_token"},
    }
    for name, place in held.items():
        (secrets / name).write_text(CANARIES[place] + "\n")
        (secrets / name).chmod(0o600)
    settings = {
        "forge": {
            "kind": "gitea",
            "repository": "me/config",
            "base_url": "https://127.0.0.1:1",
            "token_file": str(secrets / "forge"),
        },
        "webhook": {"secret_file": str(secrets / "webhook")},
        "docker": {"registries": {"r.io": {"username": "u", "password_file": str(secrets / "registry")}}},
        "kong": {"admin": "http://127.0.0.1:1", "token_file": str(secrets / "kong")},
    }
    world = Sinks(tmp_path, settings, monkeypatch)
    yield world
    world.wired.close()


def written(secret: str) -> list[str]:
    """A secret as programs print it: whole, cut off, encoded."""
    raw = secret.encode()
    return [
        *(secret, secret[:6], secret[:9], f"x{secret}y", json.dumps(secret), quote(secret, safe=""), repr(raw)),
        *(raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()),
        base64.b64encode(b"user:" + raw).decode(),
    ]


def said(secrets: dict[str, str]) -> str:
    return "; ".join(f"{place} is {' | '.join(written(secret))}" for place, secret in secrets.items())


def found(told: dict[str, str], secrets: dict[str, str]) -> list[tuple[str, str, str]]:
    """Where which secret is, and in what form."""
    return [
        (sink, place, form)
        for sink, text in told.items()
        for place, secret in secrets.items()
        for form in {secret[:6], *written(secret)}
        if form in text
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", WHERE)
def test_no_secret_is_read_anywhere_whatever_fails(
    where: str, kind: str, sinks: Sinks, capsys: pytest.CaptureFixture[str]
) -> None:
    sinks.commit({"apps/shop/compose.yaml": "services: {web: {image: nginx}}\n"}, "the first")
    sinks.pass_()
    sinks.open_pull_request(FILES)
    sinks.commit(FILES, "with secrets")
    for name in ("db", "key"):  # as a pass asks for them, and the fake host does not
        sinks.wired.tools.secrets.read(name)
    read_secret(str(sinks.folder / "secrets" / "git"), "credentials.token_file")  # for an address that is none here
    named = {place: secret for place, secret in CANARIES.items() if place != "environment_plain"}
    # What only looks random is struck out where its own app is spoken of.
    planted = named if where == "observe" or kind == "has a bug" else CANARIES
    sinks.say(where, kind, said(planted), app="shop")
    sinks.forge.said = said({place: CANARIES[place] for place in ("forge_token", "git_token")})
    sinks.pass_()
    sinks.forge.said = ""
    sinks.pass_()
    sinks.webhook({"x-gitea-signature": CANARIES["webhook"]}, CANARIES["webhook"].encode())
    told = sinks.read(capsys)
    assert any("***" in text for text in told.values())
    if kind != "has a bug":
        assert "***" in told["log"] + told["forge"] + told["state/history.db-wal"] + told["mvd status"]
        assert "***" in told["notifications"]
    assert found(told, planted) == []
