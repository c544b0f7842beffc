"""How notices become one message, and when nobody is to be woken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.model import Revision
from gitops_mvd.core.notice import Notice, Quiet, What
from gitops_mvd.core.notice_address import pieces, secrets_of_address
from gitops_mvd.status import notice_text
from gitops_mvd.status.notice_text import MOST_TOLD, Message, concerns, folded

LONDON = ZoneInfo("Europe/London")
NIGHT = Quiet(22 * 60, 7 * 60, LONDON)
COMMIT = Revision("1a2b3c4d5e", "main", "Bump web to 2")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=LONDON).timestamp()


def bad(app: str, what: What = What.FAILED, when: float = 0.0, why: str = "http 503; rolled back") -> Notice:
    return Notice(when, app, what, why, COMMIT)


def over(app: str, what: What = What.FAILED, when: float = 60.0, why: str = "") -> Notice:
    return Notice(when, app, What.RECOVERED, why, COMMIT, over=what)


def message(host: str, notices: Sequence[Notice], now: float, **more: Any) -> Message:
    return notice_text.message(host, folded(notices), now, **more)


# ---- the message -----------------------------------------------------------------------------------------------------


def test_a_failure_is_told_with_all_that_one_asks_next() -> None:
    told = message("srv1", [bad("web")], 1.0, link="https://wiki.example.com/{host}/{app}?at={commit}")
    assert told.title == "web on srv1 failed"
    assert told.kind == "failure"
    assert told.body.splitlines() == [
        "web on srv1 failed: http 503; rolled back",
        "commit 1a2b3c4 Bump web to 2",
        "https://wiki.example.com/srv1/web?at=1a2b3c4d5e",
        "look: mvd status web",
    ]


def test_a_recovery_says_what_is_over() -> None:
    told = message("srv1", [over("web", why="no longer: exit 1")], 60.0)
    assert (told.title, told.kind) == ("web on srv1 recovered", "success")
    assert told.body == "web on srv1 recovered: no longer: exit 1\ncommit 1a2b3c4 Bump web to 2"


def test_what_is_about_the_server_names_it_alone() -> None:
    git = Notice(0.0, "", What.WAITING, "Git could not be asked: timed out", about="git")
    suspended = Notice(0.0, "", What.SUSPENDED, "disk change", about="suspended")
    resumed = Notice(0.0, "", What.SUSPENDED, "", over=What.SUSPENDED, about="suspended")
    assert message("srv1", [git], 0.0).body == ("srv1 is waiting: Git could not be asked: timed out\nlook: mvd status")
    assert message("srv1", [suspended], 0.0).title == "srv1 is suspended"
    assert message("srv1", [resumed], 0.0).title == "srv1 is resumed"


def test_several_are_told_in_one_message_the_worst_first() -> None:
    told = message("srv1", [over("db"), bad("web", What.WAITING), bad("api")], 60.0)
    assert told.title == "srv1: 1 failed, 1 waiting, 1 recovered"
    assert told.kind == "failure"
    assert [block.splitlines()[0].split(":")[0] for block in told.body.split("\n\n")] == [
        "api on srv1 failed",
        "web on srv1 is waiting",
        "db on srv1 recovered",
    ]


def test_what_failed_and_mended_is_one_line() -> None:
    night = [bad("web", when=at("2026-11-30 02:10")), over("web", when=at("2026-11-30 02:14"))]
    twice = [*night, bad("web", when=at("2026-11-30 03:00")), over("web", when=at("2026-11-30 03:05"))]
    told = message("srv1", twice, at("2026-11-30 07:00"), zone=LONDON)
    assert told.title == "web on srv1 failed and recovered"
    assert told.kind == "success"
    assert told.body.splitlines() == [
        "web on srv1 failed and recovered (02:10 to 03:05): http 503; rolled back",
        "commit 1a2b3c4 Bump web to 2",
    ]
    still = message("srv1", [*night, bad("web", when=at("2026-11-30 06:00"))], at("2026-11-30 07:00"), zone=LONDON)
    assert still.title == "srv1: 1 failed, 1 mended"
    assert still.body.startswith("web on srv1 failed at 2026-11-30 06:00: http 503")


def test_a_revert_is_a_recovery_and_not_a_deploy_too() -> None:
    deployed = Notice(60.0, "web", What.DEPLOYED, "same version as in 1a2b3c4 (reverted)", COMMIT)
    assert [it.notice.what for it in folded([over("web"), deployed])] == [What.RECOVERED]
    assert [it.notice.what for it in folded([deployed, deployed])] == [What.DEPLOYED]


def test_who_asks_for_no_recoveries_is_not_told_what_is_over_by_now() -> None:
    deployed = Notice(60.0, "web", What.DEPLOYED, "image 1 → 2", COMMIT)
    assert folded([bad("web"), over("web")], [What.FAILED]) == []
    assert folded([over("web")], [What.FAILED]) == []
    again = folded([bad("web"), over("web"), bad("web", when=90.0)], [What.FAILED])
    assert [(it.notice.at, it.begun) for it in again] == [(90.0, None)]
    assert [it.notice.what for it in folded([over("web"), deployed], [What.FAILED, What.DEPLOYED])] == [What.DEPLOYED]


def test_two_troubles_of_the_server_do_not_hide_each_other() -> None:
    git = Notice(0.0, "", What.WAITING, "git", about="git")
    docker = Notice(1.0, "", What.WAITING, "docker", about="pass")
    git_over = Notice(2.0, "", What.RECOVERED, "", over=What.WAITING, about="git")
    told = folded([git, docker, git_over])
    assert [(it.notice.about, bool(it.begun)) for it in told] == [("pass", False), ("git", True)]


def test_a_message_is_bounded_however_much_has_failed() -> None:
    told = message("srv1", [bad(f"app{n:03}", why="x" * 5000) for n in range(500)], 0.0, dropped=7)
    assert told.title == "srv1: 500 failed"
    assert f"and {500 - MOST_TOLD} more: mvd status" in told.body
    assert told.body.endswith("7 older notices were dropped: too many waited")
    assert len(told.body) < 20_000


def test_nothing_in_a_message_steers_a_terminal_or_makes_a_line_of_its_own() -> None:
    told = message("srv1", [bad("web", why="first \x1b[31mred\r\nsecond")], 0.0)
    assert told.body.splitlines()[0] == r"web on srv1 failed: first \x1b[31mred  second"


# ---- for whom --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notice", "apps", "on", "wanted"),
    [
        (bad("web"), (), (What.FAILED,), True),
        (bad("web"), (), (What.DEGRADED,), False),
        (bad("web"), ("web",), (What.FAILED,), True),
        (bad("billing-api"), ("billing-*",), (What.FAILED,), True),
        (bad("web"), ("billing-*",), (What.FAILED,), False),
        (bad(""), (), (What.FAILED,), True),
        (bad(""), ("*",), (What.FAILED,), False),
        (over("web"), (), (What.FAILED, What.RECOVERED), True),
        (over("web"), (), (What.DEGRADED, What.RECOVERED), False),
        (over("web"), (), (What.FAILED,), True),  # if the failure still waits, it is not told
        (Notice(0.0, "", What.SUSPENDED, over=What.SUSPENDED), (), (What.SUSPENDED,), True),
    ],
)
def test_a_receiver_is_told_what_it_asked_for(
    notice: Notice, apps: tuple[str, ...], on: tuple[str, ...], wanted: bool
) -> None:
    assert concerns(notice, apps, on) is wanted


# ---- quiet hours -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        ("2026-11-30 21:59", 0.0),
        ("2026-11-30 22:00", 9.0),
        ("2026-12-01 00:30", 6.5),
        ("2026-12-01 06:59", 1 / 60),
        ("2026-12-01 07:00", 0.0),
        ("2026-12-01 12:00", 0.0),
        ("2027-03-27 22:00", 8.0),  # the clocks go forward
        ("2026-10-24 22:00", 10.0),  # and back
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(now: str, hours: float) -> None:
    assert NIGHT.left(at(now)) == pytest.approx(hours * 3600)


def test_quiet_hours_within_a_day_and_without_a_zone() -> None:
    siesta = Quiet(13 * 60, 15 * 60)
    local = datetime(2026, 6, 1, 14, 0).timestamp()
    assert siesta.left(local) == 3600
    assert siesta.left(local + 3600) == 0
    assert siesta.left(local - 7200) == 0


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 86400 * 800))
def test_after_the_quiet_time_there_is_none(begins: int, ends: int, now: int) -> None:
    if begins == ends:
        return
    quiet = Quiet(begins, ends, ZoneInfo("Australia/Lord_Howe"))
    left = quiet.left(1_700_000_000 + now)
    assert 0 <= left <= 86400 + 3600
    assert quiet.left(1_700_000_000 + now + left + 3600 * bool(left)) == 0 or (ends - begins) % 1440 > 1320


def test_the_hours_follow_each_other() -> None:
    hours = [NIGHT.left(datetime(2026, 11, 30, hour, tzinfo=UTC).timestamp()) for hour in range(24)]
    assert [bool(before) != bool(after) for before, after in pairwise(hours)].count(True) == 2


# ---- the secrets in an address ---------------------------------------------------------------------------------------


TOKEN = "TIiajkdnlazkcOXrIdevi7FQ"
DOTTED = "SG.k5Jv0bQ7w.x8Zr2mT4-pA"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtdmQifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("address", "secret", "plain"),
    [
        (f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{TOKEN}", TOKEN, "hooks.slack.com"),
        ("mailto://alerts:Pass%20word1@example.com?to=ops@example.org", "Pass word1", "example.com"),
        ("mailtos://smtp.example.com:587?user=me&pass=hunter2hunter2", "hunter2hunter2", "smtp.example.com"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "abcdefg_hijklmnop", "tgram"),
        (f"sendgrid://{DOTTED}:mvd@example.com/ops@example.com", DOTTED, "example.com"),
        (f"hassio://ec2-203-0-113-25.compute-1.amazonaws.com/{JWT}", JWT, "ec2-203-0-113-25.compute-1.amazonaws.com"),
        (f"jsons://prod-12.westeurope.logic.azure.com:443/?sig={DOTTED}", DOTTED, "prod-12.westeurope.logic.azure.com"),
        (f"ntfy://tk_{TOKEN}@10.20.30.40/deploys", f"tk_{TOKEN}", "10.20.30.40"),
        (f"ntfy://tk_{TOKEN}@ntfy.example.com/deploys", f"tk_{TOKEN}", "ntfy.example.com"),
    ],
)
def test_the_secrets_in_an_address_are_known_and_names_of_hosts_are_none(address: str, secret: str, plain: str) -> None:
    assert {secret, address} <= pieces(address)
    assert {secret, address} <= secrets_of_address(address)
    assert plain not in pieces(address) | secrets_of_address(address)
