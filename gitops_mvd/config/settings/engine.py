"""`docker`: the engine, and the logins at registries.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gitops_mvd.config.readers import absolute, filled, mapping_of
from gitops_mvd.config.settings.section import section
from gitops_mvd.config.tables import Key


@dataclass(frozen=True, slots=True)
class Login:
    """The login at a registry."""

    username: str
    password_file: str


@dataclass(frozen=True, slots=True)
class Docker:
    url: str = "unix:///var/run/docker.sock"
    registries: Mapping[str, Login] = field(default_factory=dict)


LOGIN_SECTION = section(
    Login,
    {
        "username": Key("The user name.", filled),
        "password_file": Key("The file with the password or token.", absolute),
    },
)
DOCKER_SECTION = section(
    Docker,
    {
        "url": Key(
            "The socket of this server's Docker Engine, which its units speak to, too: `unix://` and a path.", filled
        ),
        "registries": Key(
            "Logins, by the host name of the registry. The logins in root's `~/.docker/config.json`, also those of "
            "credential helpers, are used too.",
            mapping_of(LOGIN_SECTION),
        ),
    },
)
