from __future__ import annotations

import pytest

from gitops_mvd.errors import ManifestError
from gitops_mvd.settings import Login, host_and_port, read, repository_name, secret_files


def test_what_is_not_said_has_its_default() -> None:
    settings = read("config.yaml", b"repository: https://github.com/acme/config.git\n")
    assert (settings.branch, settings.interval, settings.kong, settings.forge) == ("main", 60.0, None, None)


def test_the_forge_knows_its_repository_and_token_from_the_address() -> None:
    text = b"""
repository: git@github.com:acme/config.git
credentials: {token_file: /etc/gitops-mvd/token}
docker: {registries: {myrepo.io: {username: ci, password_file: /etc/gitops-mvd/registry}}}
forge: {kind: github}
"""
    settings = read("config.yaml", text)
    assert settings.forge
    assert (settings.forge.repository, settings.forge.token_file) == ("acme/config", "/etc/gitops-mvd/token")
    assert settings.docker.registries == {"myrepo.io": Login("ci", "/etc/gitops-mvd/registry")}
    assert secret_files(settings) == {"/etc/gitops-mvd/token", "/etc/gitops-mvd/registry"}


def test_every_mistake_is_told_with_its_line() -> None:
    text = b"""
branhc: main
interval: 10
kong: {admin: 8001}
forge: {kind: sourceforge}
"""
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", text)
    told = [(problem.line, problem.key) for problem in caught.value.problems]
    assert told == [(2, ""), (2, "branhc"), (3, "interval"), (4, "kong.admin"), (5, "forge.kind")]
    assert "did you mean `branch`?" in str(caught.value.problems[1])


def test_half_a_login_is_told() -> None:
    with pytest.raises(ManifestError, match="has no `password_file`"):
        read("config.yaml", b"repository: /srv/config\ndocker: {registries: {myrepo.io: {username: ci}}}\n")


WEBHOOK = """
repository: https://github.com/acme/config
forge: {kind: github}
webhook: {secret_file: /etc/gitops-mvd/webhook%s}
"""


@pytest.mark.parametrize(
    ("said", "listen", "at"),
    [
        ("", "127.0.0.1:9180", ("127.0.0.1", 9180)),
        (', listen: "0.0.0.0:65535"', "0.0.0.0:65535", ("0.0.0.0", 65535)),
        (', listen: "[::1]:9180"', "[::1]:9180", ("::1", 9180)),
    ],
)
def test_webhooks_are_heard_at_an_address_and_port(said: str, listen: str, at: tuple[str, int]) -> None:
    settings = read("config.yaml", (WEBHOOK % said).encode())
    assert settings.webhook
    assert settings.webhook.listen == listen
    assert host_and_port(listen) == at
    assert secret_files(settings) == {"/etc/gitops-mvd/webhook"}


@pytest.mark.parametrize(
    "listen",
    [
        *("9180", ":9180", "localhost:9180", "127.0.0.1", "[::1]", "::1:9180", "[127.0.0.1]:9180", "[]:9180"),
        *(f"127.0.0.1:{port}" for port in ("", "0", "65536", "-1", "0x1f", "\N{ARABIC-INDIC DIGIT NINE}", "9" * 5000)),
    ],
)
def test_what_is_no_address_with_a_port_is_told(listen: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", (WEBHOOK % f', listen: "{listen}"').encode())
    assert [problem.key for problem in caught.value.problems] == ["webhook.listen"]


def test_webhooks_need_a_secret_and_a_forge_that_sends_them() -> None:
    with pytest.raises(ManifestError, match="has no `secret_file`"):
        read("config.yaml", b"repository: /srv/config\nforge: {kind: github, repository: a/b}\nwebhook: {}\n")
    with pytest.raises(ManifestError, match="needs `forge`"):
        read("config.yaml", b"repository: /srv/config\nwebhook: {secret_file: /etc/gitops-mvd/webhook}\n")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/acme/config.git", "acme/config"),
        ("https://github.com/acme/config/", "acme/config"),
        ("git@github.com:acme/config.git", "acme/config"),
        ("ssh://git@host:2222/acme/config.git", "acme/config"),
        ("/srv", ""),
    ],
)
def test_owner_and_name_are_told_from_the_address(url: str, name: str) -> None:
    assert repository_name(url) == name
