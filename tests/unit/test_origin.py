"""The forge behind the address of a repository."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.forges import Origin, kinds, locate


@pytest.mark.parametrize(
    ("url", "kind", "repository", "base_url"),
    [
        ("https://github.com/acme/config.git", "github", "acme/config", ""),
        ("https://github.com/acme/config/", "github", "acme/config", ""),
        ("git@github.com:acme/config.git", "github", "acme/config", ""),
        ("ssh://git@github.com/acme/config.git", "github", "acme/config", ""),
        ("https://gitlab.com/acme/platform/config.git", "gitlab", "acme/platform/config", "https://gitlab.com"),
        ("https://codeberg.org/acme/config", "forgejo", "acme/config", "https://codeberg.org"),
        ("https://me@bitbucket.org/acme/config.git", "bitbucket-cloud", "acme/config", ""),
        ("git@bitbucket.org:acme/config.git", "bitbucket-cloud", "acme/config", ""),
        ("https://acme@dev.azure.com/acme/The%20Shop/_git/config", "azure-devops", "acme/The Shop/config", ""),
        ("https://dev.azure.com/acme/_git/config", "azure-devops", "acme/config/config", ""),
        ("git@ssh.dev.azure.com:v3/acme/shop/config", "azure-devops", "acme/shop/config", ""),
        ("https://acme.visualstudio.com/DefaultCollection/shop/_git/config", "azure-devops", "acme/shop/config", ""),
        ("https://git.acme.example/acme/config", "", "acme/config", "https://git.acme.example"),
        ("/srv/config", "", "", ""),
        ("file:///srv/acme/config", "", "", ""),
    ],
)
def test_a_well_known_address_tells_all(url: str, kind: str, repository: str, base_url: str) -> None:
    assert locate(url) == Origin(kind, repository, base_url)


@pytest.mark.parametrize(
    ("kind", "url", "repository", "base_url"),
    [
        ("github", "https://ghe.acme.example/acme/config", "acme/config", "https://ghe.acme.example/api/v3"),
        ("github", "https://acme.ghe.com/acme/config", "acme/config", "https://api.acme.ghe.com"),
        ("github", "git@ghe.acme.example:acme/config.git", "acme/config", "https://ghe.acme.example/api/v3"),
        ("gitlab", "ssh://git@git.acme.example:2222/a/b/c/config.git", "a/b/c/config", "https://git.acme.example"),
        ("gitea", "http://git.acme.example:3000/acme/config", "acme/config", "http://git.acme.example:3000"),
        ("gitea", "https://acme.example/git/acme/config", "acme/config", "https://acme.example/git"),
        ("bitbucket-dc", "https://acme.example/scm/SHOP/config.git", "SHOP/config", "https://acme.example"),
        ("bitbucket-dc", "https://acme.example/bb/scm/~joe/config.git", "~joe/config", "https://acme.example/bb"),
        ("bitbucket-dc", "ssh://git@acme.example:7999/SHOP/config.git", "SHOP/config", "https://acme.example"),
        ("azure-devops", "https://a.example/tfs/Acme/shop/_git/config", "Acme/shop/config", "https://a.example/tfs"),
    ],
)
def test_of_a_known_forge_the_api_is_told(kind: str, url: str, repository: str, base_url: str) -> None:
    assert locate(url, kind) == Origin(kind, repository, base_url)


@given(st.text(max_size=60), st.sampled_from(["", *kinds()]))
def test_whatever_the_address_nothing_is_raised(url: str, kind: str) -> None:
    for prefix in ("", "https://", "ssh://", "git@h:", "https://dev.azure.com/"):
        assert locate(prefix + url, kind).kind in {kind, *kinds(), ""}
