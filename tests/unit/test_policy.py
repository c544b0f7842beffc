from __future__ import annotations

from typing import Any

import pytest

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Service
from gitops_mvd.core.policy import Policy, enforce

STRICT = Policy(mounts=("/srv",), registries=("myrepo.io",))


def app(run: dict[str, Any], image: str = "myrepo.io/chat:1", **more: Any) -> App:
    return App("chat", (Service("web", image, run=run),), **more)


def bind(source: str) -> dict[str, Any]:
    return {"volumes": [{"type": "bind", "source": source, "target": "/x", "read_only": False}]}


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ({"privileged": True}, "web: privileged"),
        ({"cap_add": ["SYS_ADMIN"]}, "web: cap_add"),
        ({"network_mode": "host"}, "web: network_mode: host"),
        ({"pid": "host"}, "web: pid: host"),
        (bind("/etc"), "web: mounting /etc"),
        (bind("/srvother"), "web: mounting /srvother"),
        (bind("/var/run/docker.sock"), "web: mounting /var/run/docker.sock"),
    ],
)
def test_what_reaches_beyond_the_container_is_refused(run: dict[str, Any], told: str) -> None:
    with pytest.raises(StepFailed) as caught:
        enforce(STRICT, app(run))
    assert told in str(caught.value)


@pytest.mark.parametrize("run", [{}, bind("/srv/data"), {"network_mode": "none"}, {"cap_drop": ["ALL"]}])
def test_what_stays_inside_is_let_through(run: dict[str, Any]) -> None:
    enforce(STRICT, app(run))


def test_a_host_folder_behind_a_volume_is_a_host_folder() -> None:
    options = {"driver_opts": {"type": "none", "o": "bind", "device": "/etc"}}
    with pytest.raises(StepFailed, match="volume chat_data: mounting /etc"):
        enforce(STRICT, app({}, volumes={"chat_data": options}))


@pytest.mark.parametrize("image", ["redis:7", "library/redis:7", "evil.io/chat:1"])
def test_images_come_from_the_named_registries_only(image: str) -> None:
    with pytest.raises(StepFailed, match="images from"):
        enforce(STRICT, app({}, image))


def test_a_trusted_app_may_do_anything() -> None:
    enforce(Policy(trusted=("chat",)), app({"privileged": True}))


def test_without_a_policy_everything_is_allowed() -> None:
    enforce(None, app({"privileged": True, **bind("/")}, "evil.io/x:1"))


def test_everything_that_is_forbidden_is_told_at_once() -> None:
    with pytest.raises(StepFailed) as caught:
        enforce(STRICT, app({"privileged": True, "pid": "host", **bind("/etc")}))
    assert str(caught.value).count("web:") == 3
