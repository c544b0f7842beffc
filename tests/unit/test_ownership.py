"""Whose a container is, by its name and its labels."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mvd.docker.ownership import by_own_name, managed, renamed, strangers

WEB = "mvd-shop-web-0123abcd"


def container(name: str, created: int = 1, **labels: str) -> Any:
    own = {"app": "shop", "service": "web", "digest": "0123abcd" + "0" * 56, **labels}
    return {
        "Names": [f"/{name}"],
        "Created": created,
        "Labels": {f"io.gitops-mvd.{key}": value for key, value in own.items() if value},
    }


@pytest.mark.parametrize("name", [WEB, f"{WEB}-2", f"{WEB}-12", f"{WEB}.new", f"{WEB}-2.new"])
def test_a_container_is_managed_if_its_name_is_what_its_labels_say(name: str) -> None:
    assert managed([container(name)]).keys() == {name}
    assert strangers([container(name)]) == []


@pytest.mark.parametrize(
    "other",
    [
        container("debug"),
        container("mvd-shop-web"),
        container(f"{WEB}-old"),
        container(WEB, app="blog"),
        container(WEB, digest=""),
        container(WEB, service=""),
    ],
)
def test_labels_alone_or_a_name_alone_make_no_container_managed(other: Any) -> None:
    assert managed([other]) == {}
    assert strangers([other]) == [other]


def test_a_container_without_a_name_is_being_removed() -> None:
    leaving = {**container(WEB), "Names": []}
    assert managed([leaving]) == {}
    assert strangers([leaving]) == []


def test_a_container_that_an_instance_lacks_was_renamed() -> None:
    hidden = container("hidden")
    assert renamed([hidden], lambda: [WEB]) == {WEB: hidden}
    second = container("hidden2", created=2)
    assert renamed([second, hidden], lambda: [f"{WEB}-2", WEB]) == {WEB: hidden, f"{WEB}-2": second}
    assert renamed([container(WEB), second], lambda: [WEB, f"{WEB}-2"]) == {f"{WEB}-2": second}
    first = container(WEB)
    assert by_own_name([first, second], lambda: [WEB, f"{WEB}-2"]) == {WEB: first, f"{WEB}-2": second}


def test_a_copy_of_a_container_is_somebody_elses() -> None:
    assert renamed([container(WEB), container("copy")], lambda: [WEB]) == {}, "its name is taken"
    assert renamed([container("copy")], lambda: []) == {}, "no unit has its name"
    assert renamed([container("copy", digest="f" * 64)], lambda: [WEB]) == {}, "it was made of something else"


def test_no_unit_is_looked_for_if_every_container_has_its_name() -> None:
    def look() -> list[str]:
        raise AssertionError("looked for")

    assert renamed([container(WEB)], look) == {}
