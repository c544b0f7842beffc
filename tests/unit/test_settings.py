from __future__ import annotations

import pytest

from gitops_mvd.errors import ManifestError
from gitops_mvd.settings import GitHubApp, Login, github_api, read, repository_name, secret_files


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


def test_a_github_app_is_a_login_for_the_repository_and_for_its_forge() -> None:
    for written, id in (("4711", "4711"), ("Iv23liAbCd", "Iv23liAbCd")):
        text = f"""
repository: https://github.com/acme/config.git
credentials: {{github_app: {{id: {written}, key_file: /etc/gitops-mvd/app.pem}}}}
forge: {{kind: github}}
"""
        settings = read("config.yaml", text.encode())
        assert settings.credentials.github_app == GitHubApp(id, "/etc/gitops-mvd/app.pem")
        assert settings.forge
        assert settings.forge.token_file == ""
        assert secret_files(settings) == {"/etc/gitops-mvd/app.pem"}


@pytest.mark.parametrize(
    ("credentials", "line", "key"),
    [
        ("{token_file: /t, github_app: {id: 1, key_file: /k}}", 2, "credentials.github_app"),
        ("{github_app: {id: 1}}", 2, "credentials.github_app"),
        ("{github_app: {id: 1, key_file: k.pem}}", 2, "credentials.github_app.key_file"),
        ("{github_app: {id: 1, key_file: /k, installation: 2}}", 2, "credentials.github_app.installation"),
    ],
)
def test_a_github_app_is_read_strictly(credentials: str, line: int, key: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", f"repository: https://github.com/acme/config\ncredentials: {credentials}\n".encode())
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [(line, key)]


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://github.com/acme/config.git", "https://api.github.com"),
        ("git@github.com:acme/config.git", "https://api.github.com"),
        ("https://acme.ghe.com/acme/config", "https://api.acme.ghe.com"),
        ("https://git.example.com:8443/acme/config", "https://git.example.com:8443/api/v3"),
        ("https://me@git.example.com/acme/config", "https://git.example.com/api/v3"),
        ("ssh://git@git.example.com:2222/acme/config.git", "https://git.example.com/api/v3"),
        ("git@git.example.com:acme/config.git", "https://git.example.com/api/v3"),
    ],
)
def test_the_api_of_a_github_is_told_from_the_address(url: str, api: str) -> None:
    assert github_api(url) == api


def test_every_mistake_is_told_with_its_line() -> None:
    text = b"""
branhc: main
interval: 10
kong: {admin: 8001}
forge: {kind: sourceforge}
docker: {registries: {myrepo.io: {username: ci}}}
"""
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", text)
    told = [(problem.line, problem.key) for problem in caught.value.problems]
    assert told == [
        (2, ""),
        (2, "branhc"),
        (3, "interval"),
        (4, "kong.admin"),
        (5, "forge.kind"),
        (6, "docker.registries.myrepo.io"),
    ]
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
