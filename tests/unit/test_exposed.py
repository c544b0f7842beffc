"""A secret that everybody on the host could read is refused, with a sentence."""

from __future__ import annotations

import pytest
import yaml

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import load
from tests.unit.memory_tree import MemoryTree


def problems(**service: object) -> list[str]:
    environment = {"REDIS_PASSWORD": "hunter2-x9", "POSTGRES_PASSWORD": "postgres", "URL": "amqp://u:rabb1t-pw@mq"}
    compose = {"services": {"web": {"image": "nginx", "environment": environment, "secrets": ["cert"], **service}}}
    tree = MemoryTree(
        {
            "apps/shop/compose.yaml": yaml.safe_dump({**compose, "secrets": {"cert": {"file": "cert"}}}),
            "apps/shop/cert": "first line\nk3y-of-the-cert\n",
        }
    )
    _, broken = load(tree, HostFacts("h"))
    return [f"{it.key}: {it.message}" for it in broken.get("shop", ())]


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("command", ["redis-server", "--requirepass", "hunter2-x9"], "REDIS_PASSWORD"),
        ("command", "connect amqp://u:rabb1t-pw@mq", "URL"),
        ("entrypoint", ["run", "--password=hunter2-x9"], "REDIS_PASSWORD"),
        ("labels", {"com.example.auth": "u:hunter2-x9"}, "REDIS_PASSWORD"),
        ("healthcheck", {"test": ["CMD", "redis-cli", "-a", "hunter2-x9", "ping"]}, "REDIS_PASSWORD"),
        ("healthcheck", {"test": "ask k3y-of-the-cert"}, "/run/secrets/cert"),
    ],
)
def test_a_known_secret_is_refused_where_everybody_can_read_it(key: str, value: object, secret: str) -> None:
    [said] = problems(**{key: value})
    assert said.startswith(f"services.web.{key}: has the value of {secret} in it, which everybody on the host may read")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("healthcheck", {"test": ["CMD", "pg_isready", "-U", "postgres"]}),
        ("command", "sh -c 'redis-server --requirepass \"$$REDIS_PASSWORD\"'"),
        ("labels", {"com.example.team": "red"}),
    ],
)
def test_everyday_words_and_names_of_variables_are_no_secrets(key: str, value: object) -> None:
    assert problems(**{key: value}) == []
