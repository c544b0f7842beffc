"""What `mvd status` shows, at the widths of terminals."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gitops_mvd.api.views import (
    AppView,
    CommitView,
    DrainView,
    GitView,
    HeldView,
    HostView,
    InstanceView,
    OperationView,
    RouteView,
    ServiceView,
    StepView,
    SuspensionView,
    ThreadView,
)
from gitops_mvd.cli.host_text import host_lines
from gitops_mvd.cli.output import Screen, coloured
from gitops_mvd.cli.table import plainly, table, wrapped
from gitops_mvd.core.errors import MvdError

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0
COMMIT = CommitView("7385d30f" + 32 * "0", "Greet in Dutch", "Anna", NOW - HOUR)
OLDER = CommitView("eb33aaf1" + 32 * "0", "Greet", "Anna", NOW - 9 * DAY)
IMAGE = "registry.example.org:5000/babylon/chatbot:1.4.2@sha256:" + 64 * "9"
WHY = "web: http 503 from /health for 60 s, and 3 times before that since Monday; its last line: out of memory"
INSTANCES = (
    InstanceView("mvd-chatbot-web-3f9c2a1b-1", "running", "Healthy", "", NOW - 9 * DAY, ("127.0.0.1:20001->7799",)),
    InstanceView("mvd-chatbot-web-3f9c2a1b-2", "restarting", "Degraded", "exited with code 137", NOW - 12),
)
WEB = ServiceView(
    *("web", IMAGE, "Degraded", 1, 2, f"sha256:{64 * '9'}", "exited with code 137", NOW - 12, "http /health"),
    routes=(RouteView("", ("example.org/chatbot",), ("key-auth",)),),
    instances=INSTANCES,
)
DB = ServiceView("db", "postgres:17", "Healthy", 1, 1, since=NOW - 40 * DAY)
CHATBOT = AppView(
    *("chatbot", "OutOfSync", "Degraded", "RolledBack", WHY, "", OLDER, NOW - 9 * DAY), services=(WEB, DB)
)
SHOP_WEB = ServiceView("web", "shop:2", "Healthy", 3, 3)
SHOP = AppView(*("shop", "Synced", "Healthy", "Succeeded"), running=COMMIT, since=NOW - 12, services=(SHOP_WEB,))
NIGHTLY = AppView(
    *("nightly", "Synced", "Suspended", "Succeeded"),
    running=COMMIT,
    since=NOW - HOUR,
    suspended=SuspensionView("anna", "the disk is changed"),
)
HOST = HostView("web-1", "0.1.0", NOW - 5, "OutOfSync", "Degraded", COMMIT, apps=(CHATBOT, NIGHTLY, SHOP))


def shown(view: HostView, name: str = "", width: int = 0, operation: OperationView | None = None) -> str:
    return "\n".join(host_lines(view, name, operation, Screen(width, plainly, NOW)))


def test_every_app_on_a_terminal_of_80_columns() -> None:
    assert (
        shown(HOST, width=80)
        == """\
web-1: OutOfSync with 7385d30 Greet in Dutch (1 of 3 apps)
APP      SYNC       HEALTH     READY  COMMIT   SINCE  WHY
chatbot  OutOfSync  Degraded   2/3    eb33aaf  9d     web: http 503 from /health
                                                      for 60 s, and 3 times
                                                      before that since Monday;
                                                      its last line: out of …
nightly  Synced     Suspended  -      7385d30  1h     suspended by anna: the
                                                      disk is changed
shop     Synced     Healthy    3/3    7385d30  12s"""
    )


def test_every_app_on_a_terminal_of_140_columns() -> None:
    assert (
        shown(HOST, width=140)
        == f"""\
web-1: OutOfSync with 7385d30 Greet in Dutch (1 of 3 apps)
APP      SYNC       HEALTH     READY  COMMIT   SINCE  WHY
chatbot  OutOfSync  Degraded   2/3    eb33aaf  9d     {WHY[:83]}
                                                      line: out of memory
nightly  Synced     Suspended  -      7385d30  1h     suspended by anna: the disk is changed
shop     Synced     Healthy    3/3    7385d30  12s"""
    )


def test_what_does_not_run_all_the_time_is_not_counted_as_ready() -> None:
    nightly = ServiceView("nightly", "shop:2", "Healthy", 1, 0, schedule="daily")
    view = replace(HOST, apps=(replace(SHOP, services=(SHOP_WEB, nightly)),))
    assert "shop  Synced  Healthy  3/3 " in shown(view)
    assert "nightly  Healthy  -  " in shown(view, "shop")


def test_in_a_pipe_nothing_is_cut_and_every_app_is_one_line() -> None:
    _, _, chatbot, *_ = shown(HOST).splitlines()
    assert chatbot.endswith(WHY)


SERVICES_80 = """\
SERVICE  HEALTH    READY  IMAGE                                 COMMIT   SINCE
web      Degraded  1/2    …mple.org:5000/babylon/chatbot:1.4.2  eb33aaf  12s
    exited with code 137
"""


def test_one_app_with_its_services_at_80_columns() -> None:
    assert shown(HOST, "chatbot", 80).endswith(
        f"""\
                                                     its last line: out of …

{SERVICES_80}db       Healthy   1/1    postgres:17                           eb33aaf  40d"""
    )


FACTS = f"""\
digest    sha256:{64 * "9"}
probe     http /health
route     example.org/chatbot (key-auth)
"""


def test_one_service_with_its_instances_at_80_columns() -> None:
    assert shown(HOST, "chatbot/web", 80).endswith(
        f"""\
{SERVICES_80}
{FACTS}
INSTANCE                    STATE       HEALTH    SINCE  PORTS
mvd-chatbot-web-3f9c2a1b-1  running     Healthy   9d     127.0.0.1:20001->7799
mvd-chatbot-web-3f9c2a1b-2  restarting  Degraded  12s    -
    exited with code 137"""
    )


def test_one_service_with_its_instances_at_140_columns() -> None:
    assert shown(HOST, "chatbot/web", 140).endswith(
        f"""\
SERVICE  HEALTH    READY  IMAGE                                            COMMIT   SINCE  WHY
web      Degraded  1/2    registry.example.org:5000/babylon/chatbot:1.4.2  eb33aaf  12s    exited with code 137

{FACTS}
INSTANCE                    STATE       HEALTH    SINCE  PORTS                  WHY
mvd-chatbot-web-3f9c2a1b-1  running     Healthy   9d     127.0.0.1:20001->7799
mvd-chatbot-web-3f9c2a1b-2  restarting  Degraded  12s    -                      exited with code 137"""
    )


def test_what_is_true_of_the_whole_server_stands_above_its_apps() -> None:
    view = replace(
        HOST,
        held=HeldView(CommitView("e" * 40, "Greet in Welsh"), "wave 1 (canary) is not green yet"),
        drained=DrainView(CommitView("d" * 40, "Drain web-1")),
        git=GitView(NOW - 180, "https://git.example/config does not answer"),
        error="Docker does not answer",
        settings="config.yaml:3: branhc: unknown key",
        suspended=SuspensionView("anna", "the disk is changed"),
        threads=(
            ThreadView("webhooks", False, NOW - 7, "in use"),
            ThreadView("outbox", True, NOW - 60, "KeyError"),
        ),
    )
    first, held, drained, git, *others = shown(view).splitlines()
    assert first.startswith("web-1: OutOfSync")
    assert held == "eeeeeee Greet in Welsh waits: wave 1 (canary) is not green yet"
    assert drained == "drained since ddddddd Drain web-1 (`mvd fleet undrain web-1` ends it)"
    assert re.fullmatch(
        r"Git could not be asked since \d\d:\d\d \(3 minutes\): https://git.example/config does not answer", git
    )
    assert others[:5] == [
        "the last pass came to nothing: Docker does not answer",
        "the settings are rejected, the old ones stay in force: config.yaml:3: branhc: unknown key",
        "suspended by anna: the disk is changed (`mvd resume` ends it)",
        "thread webhooks not running since 7s ago: in use",
        "thread outbox started again 60s ago: KeyError",
    ]
    assert others[5].startswith("APP ")


def test_a_server_that_runs_what_git_has_says_so() -> None:
    assert shown(replace(HOST, sync="Synced", apps=(SHOP,))).startswith("web-1: Synced with 7385d30 Greet in Dutch\n")
    assert shown(replace(HOST, commit=None, apps=())).startswith("web-1: the repository was never fetched here\n")


def test_a_deploy_that_runs_shows_what_it_is_doing() -> None:
    steps = (
        StepView("shop", "web", "create", "unit", "mvd-shop-web-1", began=NOW - 9, state="done"),
        StepView("shop", "web", "wait", "unit", "mvd-shop-web-1", "until http /health succeeds", NOW - 8),
        StepView("shop", "api", "wait", "unit", "mvd-shop-api-1", "until tcp 80 succeeds", NOW - 8),
    )
    operation = OperationView(7, COMMIT, ("push",), NOW - 10, steps=steps)
    assert shown(HOST, operation=operation).splitlines()[1] == (
        "deploying 7385d30 Greet in Dutch for 10s: shop/web: wait unit until http /health succeeds, and 1 more"
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [("chat", "no such app on this host: chat (Apps: chatbot, nightly, shop)"), ("shop/db", "shop has no service db")],
)
def test_an_app_or_service_that_is_not_there_is_an_error_that_names_those_that_are(name: str, why: str) -> None:
    with pytest.raises(MvdError) as error:
        shown(HOST, name)
    assert str(error.value).startswith(why)


def test_words_have_the_colour_of_what_they_mean_and_take_no_more_room() -> None:
    plain = list(host_lines(HOST, "chatbot/web", None, Screen(80, plainly, NOW)))
    painted = list(host_lines(HOST, "chatbot/web", None, Screen(80, coloured, NOW)))
    assert any("\x1b[31mDegraded\x1b[0m" in line for line in painted)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in painted] == plain


def test_what_steers_a_terminal_is_shown_and_not_done() -> None:
    bad = replace(SHOP, why="\x1b[2Jgone\nand a second row", health="Degraded")
    view = replace(HOST, host="\x1b]0;title\x07", apps=(bad,), error="\x1b[31mred")
    text = "\n".join(host_lines(view, "", None, Screen(0, coloured, NOW)))
    assert set(re.findall(r"\x1b[^m]*m?", text)) <= {"\x1b[33m", "\x1b[31m", "\x1b[32m", "\x1b[0m"}
    assert len(text.splitlines()) == 4


WORDS = st.text(alphabet=st.sampled_from("ab -/:界e\u0301"), max_size=90)


@given(
    st.lists(st.tuples(*[WORDS] * 4), min_size=1, max_size=5),
    st.integers(min_value=60, max_value=140),
)
def test_no_row_is_wider_than_the_terminal(rows: list[tuple[str, ...]], width: int) -> None:
    for line in table(("APP", "IMAGE", "STATE", "WHY"), rows, width):
        wide = sum(2 if c == "界" else 0 if c == "\u0301" else 1 for c in line)
        assert wide <= width


@given(WORDS, st.integers(min_value=5, max_value=40))
def test_wrapping_loses_no_word(text: str, width: int) -> None:
    assert "".join("".join(wrapped(text, width, lines=1000)).split()) == "".join(text.split())
