"""Docker's client, and the kinds that it serves, against a real engine and real registries.

The server gives MVD_IMAGE, and MVD_PRIVATE_IMAGE with the login it takes, MVD_LOGIN, `user:password`.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Queue

import pytest

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Service
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.docker.client import Engine
from gitops_mvd.kinds.image import Images
from gitops_mvd.kinds.network import Networks
from gitops_mvd.kinds.volume import Volumes

pytestmark = pytest.mark.server


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def login() -> tuple[str, str]:
    user, _, password = os.environ["MVD_LOGIN"].partition(":")
    return user, password


def test_a_private_registry_takes_the_login_of_the_settings(login: tuple[str, str]) -> None:
    image = os.environ["MVD_PRIVATE_IMAGE"]
    registry = image.partition("/")[0]
    user, password = login
    for logins in ({}, {registry: (user, f"not {password}")}):
        stranger = Engine(logins=logins)
        with pytest.raises(Unavailable, match="refused the login") as caught:
            stranger.resolve(image)
        assert password not in str(caught.value)
        stranger.close()
    friend = Engine(logins={registry: login})
    pinned = friend.resolve(image)
    friend.pull(pinned)
    assert friend.has(pinned)
    docker("rmi", pinned)
    friend.close()


def test_a_private_registry_takes_the_login_of_the_docker_command_even_a_later_one(
    engine: Engine, login: tuple[str, str], tmp_path: Path
) -> None:
    image = os.environ["MVD_PRIVATE_IMAGE"]
    with pytest.raises(Unavailable, match="refused the login"):
        engine.resolve(image)
    auth = base64.b64encode(":".join(login).encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {image.partition("/")[0]: {"auth": auth}}}))
    assert engine.resolve(image).startswith(f"{image.rpartition(':')[0]}@sha256:")


def test_an_image_that_is_not_in_its_registry_is_refused(engine: Engine) -> None:
    repository = os.environ["MVD_IMAGE"].rpartition(":")[0]
    with pytest.raises(StepFailed, match="there is no such image"):
        engine.resolve(f"{repository}:never-pushed")
    with pytest.raises(StepFailed, match="there is no such image"):
        engine.pull(f"{repository}@sha256:{'0' * 64}")


def test_a_registry_that_is_not_there_is_waited_for(engine: Engine) -> None:
    with pytest.raises(NotNow, match="could not resolve"):
        engine.resolve("127.0.0.1:1/shop/web:1")
    with pytest.raises(NotNow, match="could not pull"):
        engine.pull(f"127.0.0.1:1/shop/web@sha256:{'0' * 64}")


def test_an_image_survives_a_prune_while_it_is_held_and_is_gone_when_it_is_let_go(engine: Engine) -> None:
    images = Images(engine, Interruptible())
    app = App("shop", (engine.pin(Service("web", os.environ["MVD_IMAGE"])),))
    (image,) = images.wanted(app)
    images.apply([Change(None, image)])
    docker("image", "prune", "--force")
    assert list(images.observe()) == [image]
    assert engine.pin(Service("web", os.environ["MVD_IMAGE"], pull_policy="never")).image == image.name
    images.apply([Change(image, None)])
    assert not engine.has(image.name)


def test_an_image_that_two_apps_need_stays_until_the_second_lets_go(engine: Engine) -> None:
    images = Images(engine, Interruptible())
    service = engine.pin(Service("web", os.environ["MVD_IMAGE"]))
    one, two = (next(iter(images.wanted(App(name, (service,))))) for name in ("one", "two"))
    images.apply([Change(None, one), Change(None, two)])
    images.apply([Change(one, None)])
    assert list(images.observe()) == [two]
    assert engine.has(service.image)
    images.apply([Change(two, None)])
    assert not engine.has(service.image)


@pytest.mark.parametrize("by_digest", [False, True], ids=["by tag", "by digest"])
def test_an_image_that_was_pulled_by_hand_is_never_removed(engine: Engine, by_digest: bool) -> None:
    images, name = Images(engine, Interruptible()), os.environ["MVD_IMAGE"]
    by_hand = engine.resolve(name) if by_digest else name
    docker("pull", "--quiet", by_hand)
    service = engine.pin(Service("web", by_hand))
    try:
        one, two = (next(iter(images.wanted(App(app, (service,))))) for app in ("one", "two"))
        images.apply([Change(None, one), Change(None, two)])
        docker("image", "prune", "--force")
        assert list(images.observe()) == [one, two]
        images.apply([Change(one, None), Change(two, None)])
        assert list(images.observe()) == []
        assert by_hand in docker("image", "inspect", "--format", "{{.RepoTags}} {{.RepoDigests}}", by_hand)
    finally:
        docker("rmi", by_hand)


def test_an_image_with_a_container_of_somebody_else_is_left_in_peace(engine: Engine) -> None:
    images = Images(engine, Interruptible())
    (image,) = images.wanted(App("shop", (engine.pin(Service("web", os.environ["MVD_IMAGE"])),)))
    images.apply([Change(None, image)])
    docker("create", "--name", "by-hand", image.name)
    try:
        images.apply([Change(image, None)])
        assert list(images.observe()) == []
        assert engine.has(image.name)
    finally:
        docker("rm", "by-hand")
        docker("rmi", os.environ["MVD_IMAGE"])


def test_why_a_container_did_not_start_is_known_whether_it_ran_before_or_not(engine: Engine) -> None:
    name, port = "mvd-shop-web-00000001", 18_099
    image = engine.resolve(os.environ["MVD_IMAGE"])
    engine.pull(image)
    owner = {"app": "shop", "service": "web", "digest": "00000001".ljust(64, "0")}
    labels = [f"--label=io.gitops-mvd.{key}={value}" for key, value in owner.items()]
    docker("create", "--name", name, *labels, "--publish", f"127.0.0.1:{port}:80", image)
    told = []
    try:
        for state in ("created", "exited"):
            with socket.create_server(("127.0.0.1", port)), pytest.raises(subprocess.CalledProcessError):
                docker("start", name)
            there = engine.instance(name)
            assert there
            assert there.state == state
            told.append(there.refused)
            docker("start", name)
            there = engine.instance(name)
            assert there
            assert (there.state, there.refused) == ("running", "")
            docker("kill", name)
            there = engine.instance(name)
            assert there
            assert (there.state, there.refused) == ("exited", "")
    finally:
        docker("rm", "--force", name)
        docker("rmi", image)
    assert all("address already in use" in why for why in told), told


def test_a_network_or_volume_of_somebody_else_is_not_taken_over(engine: Engine) -> None:
    app = App("shop", networks={"by-hand": {}}, volumes={"by-hand": {}})
    docker("network", "create", "by-hand")
    docker("volume", "create", "by-hand")
    try:
        for kind in (Networks(engine), Volumes(engine)):
            with pytest.raises(StepFailed, match="by-hand"):
                kind.apply([Change(None, resource) for resource in kind.wanted(app)])
            assert list(kind.observe()) == []
    finally:
        docker("network", "rm", "by-hand")
        docker("volume", "rm", "by-hand")


def test_a_volume_whose_options_changed_keeps_its_data_and_says_so(engine: Engine) -> None:
    volumes = Volumes(engine)
    (before,) = volumes.wanted(App("shop", volumes={"shop_data": {}}))
    (after,) = volumes.wanted(App("shop", volumes={"shop_data": {"labels": {"team": "ai"}}}))
    volumes.apply([Change(None, before)])
    try:
        with pytest.raises(StepFailed, match="shop_data was made with other options"):
            volumes.apply([Change(before, after)])
        assert list(volumes.observe()) == [before]
    finally:
        volumes.apply([Change(before, None)])


def test_a_network_whose_options_changed_under_one_name_is_made_again(engine: Engine) -> None:
    networks = Networks(engine)
    (before,) = networks.wanted(App("shop", networks={"shop": {}}))
    (after,) = networks.wanted(App("shop", networks={"shop": {"ipam": {"config": [{"subnet": "10.77.0.0/24"}]}}}))
    networks.apply([Change(None, before)])
    networks.apply([Change(before, after)])
    assert list(networks.observe()) == [after]
    networks.apply([Change(after, None)])


@pytest.mark.parametrize("labels", [{}, {"io.gitops-mvd.app": "shop"}])
def test_of_two_networks_of_one_name_the_managed_ones_are_removed(engine: Engine, labels: dict[str, str]) -> None:
    """Docker allowed that until version 25, and has them from then."""
    if engine.api_version() >= (1, 44):
        pytest.skip("Docker 25 and newer makes no two networks of one name")
    networks, app = Networks(engine), App("shop", networks={"twice": {}})
    (wanted,) = networks.wanted(app)
    networks.apply([Change(None, wanted)])
    with engine.asking("make another one") as api:
        other = api.create_network("twice", labels=labels)["Id"]
    engine.forget("network")
    try:
        assert "shop" in engine.existing(app)["network", "twice"]
        networks.apply([Change(wanted, None)])
        left = [it["Id"] for it in engine.networks() if it["Name"] == "twice"]
        assert left == ([] if labels else [other])
    finally:
        engine.remove_network(other)


def test_a_volume_that_was_made_for_another_app_is_used_as_it_is(engine: Engine) -> None:
    volumes, (theirs, ours) = Volumes(engine), (App(name, volumes={"shop_data": {}}) for name in ("shop", "store"))
    (made,), (wanted,) = volumes.wanted(theirs), volumes.wanted(ours)
    volumes.apply([Change(None, made)])
    try:
        volumes.apply([Change(None, wanted)])
        assert list(volumes.observe()) == [made]
        assert engine.existing(ours) == {("volume", "shop_data"): {"shop"}}
    finally:
        volumes.apply([Change(made, None)])


def test_events_and_listings_outlive_a_restart_of_docker(engine: Engine) -> None:
    notices: Queue[tuple[str, str, str]] = Queue()
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.1):
            with suppress(Unavailable):
                engine.follow(lambda *notice: notices.put(notice))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for name in ("before", "after"):
            wait_for(("engine", "connected", ""), notices)
            assert name not in {volume["Name"] for volume in engine.volumes()}
            docker("volume", "create", name)
            wait_for(("volume", "create", name), notices)
            assert name in {volume["Name"] for volume in engine.volumes()}
            docker("volume", "rm", name)
            wait_for(("volume", "destroy", name), notices)
            if name == "before":
                subprocess.run(["systemctl", "restart", "docker"], check=True, timeout=60)
    finally:
        stop.set()
        for _ in range(100):
            engine.hang_up()
            thread.join(0.1)
    assert not thread.is_alive()


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, timeout=60, text=True).stdout


def wait_for(notice: tuple[str, str, str], notices: Queue[tuple[str, str, str]]) -> None:
    """Others may come before it: a new stream tells the last second over again."""
    while notices.get(timeout=30) != notice:
        pass
