"""What needs no socket: which webhooks are read, which are repeated, and what is logged of many."""

from __future__ import annotations

import hashlib
import hmac
import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd import forges
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.daemon.small_server import LOG_INTERVAL_SECONDS, LogThrottle
from gitops_mvd.daemon.webhook import MOST_REPEATS, REPEAT_SECONDS, Repeats, Webhooks


@given(
    st.dictionaries(st.sampled_from(["x-hub-signature-256", "x-github-event", "content-type", "x"]), st.text()),
    st.binary(),
    st.text(),
    st.sampled_from(["push", "pull_request", "ping", "star"]),
)
@pytest.mark.parametrize("forge", forges.kinds())
def test_whatever_is_given_nothing_is_raised(
    forge: str, headers: dict[str, str], body: bytes, secret: str, kind: str
) -> None:
    receiver = forges.known()[forge]
    assert not receiver.authentic(headers, body, secret)
    assert receiver.event(headers, body).kind in {"push", "pull_request", "ping", "other"}
    assert receiver.event({**headers, "x-github-event": kind}, body).kind in {kind, "pull_request", "other"}


def test_no_secret_lets_nobody_in() -> None:
    empty = hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    for signature in (f"sha256={empty}", "sha256=" + "0" * 64):
        assert not forges.known()["github"].authentic({"x-hub-signature-256": signature}, b"{}", "")


def test_after_ten_minutes_the_same_body_is_new_again() -> None:
    now = [0.0]
    repeats = Repeats(lambda: now[0])
    assert not repeats.has(b"a")
    now[0] = REPEAT_SECONDS
    assert repeats.has(b"a")
    now[0] = REPEAT_SECONDS + 1
    assert not repeats.has(b"a")


def test_no_more_than_so_many_are_remembered() -> None:
    repeats = Repeats(lambda: 0.0)
    assert not any(repeats.has(b"%d" % number) for number in range(MOST_REPEATS + 1))
    assert repeats.has(b"1")
    assert not repeats.has(b"0")


def test_statuses_that_nobody_waits_for_are_not_remembered_in_place_of_others() -> None:
    posted: list[str] = []
    receiver, secret = forges.known()["github"], "of-sixteen-or-more"
    application = Webhooks(receiver, secret, "main", Awaited(), posted.append, LogThrottle())

    def send(kind: str, body: bytes) -> None:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        signed = {"HTTP_X_GITHUB_EVENT": kind, "HTTP_X_HUB_SIGNATURE_256": f"sha256={digest}"}
        asked = {"REQUEST_METHOD": "POST", "PATH_INFO": "/webhook", "wsgi.input": io.BytesIO(body)}
        answer: list[str] = []
        application({**asked, **signed}, lambda status, headers: answer.append(status))  # type: ignore[arg-type, return-value]
        assert answer == ["202 Accepted"]

    push = b'{"ref": "refs/heads/main"}'
    send("push", push)
    for number in range(MOST_REPEATS + 1):
        send("status", b'{"sha": "%d", "context": "mvd/uk-1", "state": "success"}' % number)
    send("push", push)
    assert posted == ["push"]


def test_alike_webhooks_are_one_line_and_a_minute_later_their_number(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    throttle = LogThrottle(lambda: now[0])
    for now[0] in (0.0, 1.0, 2.0):
        throttle.log(logging.WARNING, "webhook refused", "192.0.2.1", "its connection was too slow")
        throttle.sum_up()
    throttle.log(logging.WARNING, "webhook refused", "192.0.2.1", "something else")
    for now[0] in (LOG_INTERVAL_SECONDS + 1, LOG_INTERVAL_SECONDS + 2, 3 * LOG_INTERVAL_SECONDS):
        throttle.sum_up()
    throttle.log(logging.WARNING, "webhook refused", "192.0.2.1", "its connection was too slow")
    assert [record.getMessage() for record in caplog.records] == [
        "webhook refused from=192.0.2.1: its connection was too slow",
        "webhook refused from=192.0.2.1: something else",
        "webhook refused 2 times more: its connection was too slow",
        "webhook refused from=192.0.2.1: its connection was too slow",
    ]
