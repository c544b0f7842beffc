from __future__ import annotations

import pytest

from gitops_mvd.errors import ManifestError
from gitops_mvd.settings import Login, read, repository_name, secret_files


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
