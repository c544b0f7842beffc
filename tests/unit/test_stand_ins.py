"""What is in the repository in place of a file is refused as what it is, wherever a file is named."""

from __future__ import annotations

import pytest

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import Cache, load, read_fleet, validate
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


IN_PLACE = {
    "a file": ("apps/blog", "hello", "apps/blog:1: is a file, and an app is a folder"),
    "a pointer of Git LFS": ("apps/blog", LFS, "apps/blog:1: is a file, and an app is a folder"),
    "a folder for its file": (
        "apps/blog/compose.yaml/x",
        "",
        "apps/blog:1: apps/blog/compose.yaml is a folder, and not a file",
    ),
    "a pointer for its file": (
        "apps/blog/compose.yaml",
        LFS,
        "apps/blog/compose.yaml:1: is a pointer of Git LFS",
    ),
}


@pytest.mark.parametrize("what", IN_PLACE)
def test_an_app_in_whose_place_is_something_else_is_broken_and_not_gone(what: str) -> None:
    path, content, why = IN_PLACE[what]
    tree = MemoryTree({"apps/shop/compose.yaml": "services: {web: {image: a}}", path: content})
    apps, broken = load(tree, HostFacts("h1"))
    assert [app.name for app in apps] == ["shop"]
    assert broken.keys() == {"blog"}
    [problem] = validate(tree)
    assert str(problem).startswith(why)


def test_a_misnamed_app_with_a_folder_for_its_file_is_told_of_its_name() -> None:
    [problem] = validate(MemoryTree({"apps/Blog/compose.yaml/x": ""}))
    assert str(problem).startswith("apps/Blog:1: the folder 'Blog' is not a valid app name")


@pytest.mark.parametrize("kind", ["links", "submodules"])
def test_a_compose_file_that_became_one_is_told_as_what_it_is(kind: str) -> None:
    path = "apps/blog/docker-compose.yml"
    tree = MemoryTree({path: "../x", "apps/shop/compose.yaml": "services: {web: {image: a}}"}, **{kind: [path]})
    assert load(tree, HostFacts("h1"))[1].keys() == {"blog"}
    [problem] = validate(tree)
    assert str(problem).startswith(f"{path}:1: {path} is a {'symbolic link' if kind == 'links' else 'submodule'}")


def test_a_file_for_several_apps_is_no_app() -> None:
    service = "services: {web: {image: a, env_file: ../environment}}"
    tree = MemoryTree({"apps/environment": "A=1", "apps/notes.txt": "x", "apps/shop/compose.yaml": service})
    cache: Cache = {}
    for _ in range(2):
        apps, broken = load(tree, HostFacts("h1"), cache)
        assert [app.name for app in apps] == ["shop"]
        assert broken == {}
    assert validate(tree) == []


@pytest.mark.parametrize(("kind", "why"), [("links", "a symbolic link"), ("submodules", "a submodule"), ("", "a file")])
def test_a_folder_of_all_apps_that_is_none_refuses_the_commit(kind: str, why: str) -> None:
    more = {kind: ["apps"]} if kind else {}
    tree = MemoryTree({"apps": "elsewhere", "kong/a.yaml": "consumers: [{username: a}]"}, **more)
    with pytest.raises(ManifestError, match=f"apps:1: apps is {why}"):
        load(tree, HostFacts("h1"))
    assert any(str(problem).startswith(f"apps:1: apps is {why}") for problem in validate(tree))


@pytest.mark.parametrize("path", ["kong", "kong/a.yaml"])
@pytest.mark.parametrize(
    ("kind", "why"), [("links", "is a symbolic link"), ("submodules", "is a submodule"), ("", "is a")]
)
def test_what_is_in_place_of_the_gateways_files_removes_none_of_it(path: str, kind: str, why: str) -> None:
    more = {kind: [path]} if kind else {}
    tree = MemoryTree({path: LFS, "apps/shop/compose.yaml": "services: {web: {image: a}}"}, **more)
    assert load(tree, HostFacts("h1"))[1].keys() == {"gateway"}
    [problem] = validate(tree)
    assert problem.file == path
    assert why in problem.message


def test_a_fleet_file_that_is_none_refuses_the_commit() -> None:
    for tree in (MemoryTree({"fleet.yaml": "x"}, links=["fleet.yaml"]), MemoryTree({"fleet.yaml/a": "x"})):
        with pytest.raises(ManifestError, match=r"fleet\.yaml is a"):
            read_fleet(tree)


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
