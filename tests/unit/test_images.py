"""A pull takes as long as it takes, and nobody newer waits for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gitops_mvd.core.errors import Interrupted, StepFailed
from gitops_mvd.core.model import Change, Resource
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.docker.images import shortage
from gitops_mvd.kinds.image import Images

IMAGE = Resource("image", "web@sha256:1", "chat")


class Engine:
    """Its registry answers when it is let."""

    def __init__(self, refuses: bool = False) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()
        self.refuses = refuses
        self.names: list[str] = []

    def images(self) -> list[Any]:
        return [{"Id": "sha256:2", "RepoDigests": self.names[:1], "RepoTags": self.names[1:]}]

    def remove_image(self, name: str) -> None:
        self.names = [it for it in self.names if name not in (it, "sha256:2")]

    def has(self, pinned: str) -> bool:
        return pinned in self.names

    def pull(self, pinned: str, platform: str) -> None:
        self.asked.set()
        assert self.answers.wait(10)
        if self.refuses:
            raise StepFailed("no such image")
        self.names.append(pinned)

    def tag(self, pinned: str, name: str) -> None:
        self.names.append(name)


def hold(engine: Engine, clock: Interruptible) -> None:
    edge: Any = engine
    Images(edge, clock).apply([Change(None, IMAGE)])


def let_go(engine: Engine) -> None:
    edge: Any = engine
    Images(edge, Interruptible()).apply([Change(IMAGE, None)])


def test_something_newer_does_not_wait_for_a_pull_which_goes_on() -> None:
    engine, clock = Engine(), Interruptible()
    newer = threading.Thread(target=lambda: (engine.asked.wait(10), clock.interrupt("superseded by 1a2b3c4")))
    newer.start()
    with pytest.raises(Interrupted, match="superseded"):
        hold(engine, clock)
    newer.join()
    assert engine.names == []
    engine.answers.set()
    for thread in threading.enumerate():
        if thread.name == "pull":
            thread.join()
    clock.resume()
    hold(engine, clock)
    assert engine.has(IMAGE.name)
    let_go(engine)
    assert engine.names == [], "it was pulled here, and nobody needs it any more"


def test_what_somebody_has_pulled_by_hand_stays() -> None:
    engine = Engine()
    engine.names = [IMAGE.name, "web:1"]
    hold(engine, Interruptible())
    assert len(engine.names) == 3
    let_go(engine)
    assert engine.names == [IMAGE.name, "web:1"]


def test_what_a_pull_raises_is_raised() -> None:
    engine = Engine(refuses=True)
    engine.answers.set()
    with pytest.raises(StepFailed, match="no such image"):
        hold(engine, Interruptible())


MB = 1 << 20


@pytest.mark.parametrize(
    ("disk", "told"),
    [
        ((9000 * MB, 8900 * MB, 100 * MB), "/var/lib/docker has 100 MB left, and a pull needs 256 MB"),
        ((9000 * MB, 0, 256 * MB), ""),
        ((0, 0, 0), ""),  # a file system that says nothing of itself
    ],
)
def test_a_disk_with_hardly_any_room_is_told_in_numbers(disk: tuple[int, int, int], told: str) -> None:
    assert shortage("/var/lib/docker", disk) == told
