"""What the ends of its hosts make of a wave, and that whoever posts last has the last word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.model import CommitStatus, Health, Operation, PostedState, PostedStatus
from gitops_mvd.status.wave_status import wave_status

WAVE = "mvd/waves/2"
PEERS = ("mvd/uk-1", "mvd/uk-2", "mvd/uk-3")


def own(operation: Operation = Operation.SUCCEEDED, why: str = "web", context: str = "mvd/uk-1") -> CommitStatus:
    health = Health.HEALTHY if operation is Operation.SUCCEEDED else Health.DEGRADED
    return CommitStatus(context, operation, health, why, wave=WAVE, peers=PEERS)


def posted(context: str, state: PostedState, why: str = "web") -> PostedStatus:
    return PostedStatus(context, state, why, f"https://x/{context}", 1.0)


def made(status: CommitStatus, *others: PostedStatus) -> tuple[str, str] | None:
    found = wave_status(status, others)
    assert found is None or (found.context, found.peers) == (WAVE, ())
    return (str(found.operation), found.description) if found else None


def test_a_wave_is_green_once_all_its_hosts_are() -> None:
    uk_2, uk_3 = posted("mvd/uk-2", "green"), posted("mvd/uk-3", "green")
    assert made(own()) is None
    assert made(own(), uk_2) is None
    assert made(own(), uk_2, posted("mvd/uk-3", "pending")) is None
    assert made(own(), uk_2, uk_3) == ("Succeeded", "3 of 3 green")
    assert made(own(), uk_2, uk_3, posted("mvd/de-1", "red")) == ("Succeeded", "3 of 3 green"), "it is of another wave"


def test_it_is_red_as_soon_as_one_is_and_says_which() -> None:
    assert made(own(Operation.ROLLED_BACK, "web: http 503; rolled back")) == (
        "Failed",
        "uk-1: web: http 503; rolled back",
    )
    assert made(own(), posted("mvd/uk-2", "red", "uk-2 is not there")) == ("Failed", "uk-2 is not there")
    assert made(own(), posted("mvd/uk-2", "red", "no way to uk-21")) == ("Failed", "uk-2: no way to uk-21")
    found = wave_status(own(), [posted("mvd/uk-2", "red")])
    assert found
    assert found.url == "https://x/mvd/uk-2"


def test_what_is_shown_already_is_not_posted_again_and_what_has_become_wrong_is() -> None:
    uk_2, uk_3 = posted("mvd/uk-2", "green"), posted("mvd/uk-3", "green")
    assert made(own(), uk_2, uk_3, posted(WAVE, "green")) is None
    assert made(own(), uk_2, uk_3, posted(WAVE, "red")) == ("Succeeded", "3 of 3 green")
    assert made(own(Operation.FAILED), uk_2, uk_3, posted(WAVE, "green")) == ("Failed", "uk-1: web")
    assert made(own(Operation.FAILED, "another cause"), posted(WAVE, "red")) is None
    assert made(own(), posted(WAVE, "green")) is None, "some have not ended; it is left as it is"


def test_its_own_end_counts_though_the_forge_does_not_show_it_yet() -> None:
    uk_2, uk_3 = posted("mvd/uk-2", "green"), posted("mvd/uk-3", "green")
    assert made(own(), uk_2, uk_3, posted("mvd/uk-1", "pending")) == ("Succeeded", "3 of 3 green")
    assert made(own(Operation.FAILED), uk_2, uk_3, posted("mvd/uk-1", "green")) == ("Failed", "uk-1: web")


def test_a_host_that_went_on_to_a_newer_commit_is_neither_red_nor_green() -> None:
    over = posted("mvd/uk-2", "red", "superseded by 1a2b3c4")
    assert made(own(), over, posted("mvd/uk-3", "green")) is None


class Forge:
    """What hosts post, each step by itself, in an order that a test chooses."""

    def __init__(self) -> None:
        self.shown: dict[str, PostedStatus] = {}

    def post(self, status: CommitStatus) -> None:
        green = (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)
        self.shown[status.context] = PostedStatus(status.context, "green" if green else "red", "web", "", 0.0)

    def statuses(self) -> Sequence[PostedStatus]:
        return list(self.shown.values())


def host(forge: Forge, ends: Sequence[CommitStatus]) -> Iterator[None]:
    """A host as its outbox is: one request to the forge at each step."""
    for end in ends:
        forge.post(end)
        yield
        seen = forge.statuses()
        while made_of := wave_status(end, seen):
            yield
            forge.post(made_of)
            yield
            seen = forge.statuses()
        yield


ENDS = st.lists(st.sampled_from([Operation.SUCCEEDED, Operation.FAILED]), min_size=1, max_size=3)


@given(st.lists(ENDS, min_size=3, max_size=3), st.randoms(use_true_random=False))
def test_however_their_requests_meet_the_wave_is_in_the_end_what_its_hosts_are(
    histories: list[list[Operation]], random: Random
) -> None:
    forge = Forge()
    going = [
        host(forge, [own(it, context=peer) for it in history]) for peer, history in zip(PEERS, histories, strict=True)
    ]
    while going:
        chosen = random.choice(going)
        if next(chosen, "over") == "over":
            going.remove(chosen)
    ends = {history[-1] for history in histories}
    assert forge.shown[WAVE].state == ("green" if ends == {Operation.SUCCEEDED} else "red")


@pytest.mark.parametrize("operation", [Operation.RUNNING, Operation.SUPERSEDED])
def test_what_is_no_end_does_not_count_as_one(operation: Operation) -> None:
    assert made(own(operation), posted("mvd/uk-2", "green"), posted("mvd/uk-3", "green")) is None
