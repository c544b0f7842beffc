"""What is in the repository in place of a file is refused as what it is, wherever a file is named."""

from __future__ import annotations

import pytest

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import load, validate
from tests.unit.memory_tree import MemoryTree

LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 12345\n"
CIPHERS = {
    "Git LFS": LFS,
    "git-annex": "/annex/objects/SHA256E-s31390--f50d7.bin\n",
    "git-crypt": b"\0GITCRYPT\0\x01\x02",
    "Ansible Vault": "$ANSIBLE_VAULT;1.1;AES256\n3132\n",
}
USES = {
    "a mounted file": "volumes: ['./x:/x:ro']",
    "a file of a mounted folder": "volumes: ['./:/x:ro']",
    "a long mount": "volumes: [{type: bind, source: x, target: /x, read_only: true}]",
    "an env file": "env_file: x",
    "a config": "configs: [c]",
    "a secret": "secrets: [s]",
}
TOP = "configs: {c: {file: x}}\nsecrets: {s: {file: x}}\n"


def told(use: str, tree_of: MemoryTree) -> list[str]:
    tree_of.files["apps/shop/compose.yaml"] = f"services: {{web: {{image: a, {USES[use]}}}}}\n{TOP}".encode()
    return [problem.message for problem in validate(tree_of)]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", CIPHERS)
def test_the_content_of_something_else_is_told_as_what_it_is(name: str, use: str) -> None:
    problems = told(use, MemoryTree({"apps/shop/x": CIPHERS[name]}))
    assert any(message.startswith("apps/shop/x is") and name in message for message in problems), problems


@pytest.mark.parametrize("use", USES)
def test_a_link_and_a_submodule_are_told_as_what_they_are(use: str) -> None:
    linked = told(use, MemoryTree({"apps/shop/x": "../elsewhere"}, links=["apps/shop/x"]))
    assert any(message.startswith("apps/shop/x is a symbolic link, which is not followed") for message in linked)
    module = told(use, MemoryTree({"apps/shop/x": ""}, submodules=["apps/shop/x"]))
    assert any(message.startswith("apps/shop/x is a submodule, whose files are not fetched") for message in module)


def test_what_is_below_a_link_is_told_as_a_link() -> None:
    service = "services: {web: {image: a, volumes: ['./lib/a.conf:/a.conf:ro']}}"
    tree = MemoryTree({"apps/shop/lib": "../lib", "apps/shop/compose.yaml": service}, links=["apps/shop/lib"])
    [problem] = validate(tree)
    assert problem.message.startswith("apps/shop/lib is a symbolic link")


@pytest.mark.parametrize("kind", ["links", "submodules"])
def test_an_app_that_became_one_is_broken_and_not_gone(kind: str) -> None:
    files = {"apps/shop/compose.yaml": "services: {web: {image: a}}", "apps/blog": "../blog", "apps/README.md": "x"}
    tree = MemoryTree(files, **{kind: ["apps/blog", "apps/README.md"]})
    apps, broken = load(tree, HostFacts("h1"))
    assert [app.name for app in apps] == ["shop"]
    assert broken.keys() == {"blog"}
    [problem] = validate(tree)
    assert str(problem).startswith(f"apps/blog:1: apps/blog is a {'symbolic link' if kind == 'links' else 'submodule'}")


def test_a_folder_is_no_env_file() -> None:
    tree = MemoryTree(
        {"apps/shop/env/a": "A=1", "apps/shop/compose.yaml": "services: {web: {image: a, env_file: env}}"}
    )
    [problem] = validate(tree)
    assert problem.message == "apps/shop/env is a folder, and not a file"


@pytest.mark.parametrize(
    "text",
    [
        "# version https://git-lfs.github.com/spec/v1\n",
        "see ENC[AES256_GCM,data: in the manual\n",
        "sops: our word for a procedure\n",
        "read /annex/objects/a\nand more\n",
    ],
)
def test_a_file_that_speaks_of_one_is_a_file(text: str) -> None:
    service = "services: {web: {image: a, volumes: ['./x:/x:ro']}}"
    tree = MemoryTree({"apps/shop/x": text, "apps/shop/compose.yaml": service})
    assert validate(tree) == []
    [app] = load(tree, HostFacts("h1"))[0]
    assert app.services[0].files[0].files == {"": text}
