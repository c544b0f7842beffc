"""Notifications as they arrive: at a real mail server and a real webhook, and at those that do not take them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.config.settings.notify import NotifySettings
from gitops_mvd.core.errors import Interrupted, Unavailable
from gitops_mvd.core.model import Health, Operation, Outcome, Report, Revision, Sync, ThreadState
from gitops_mvd.core.notice import Notice, Quiet, What
from gitops_mvd.core.redact import told_line
from gitops_mvd.daemon.notifying import ByApprise
from gitops_mvd.git.child import Limits
from gitops_mvd.state.notices import MOST_WAITING, Notices
from gitops_mvd.status.deliveries import Deliveries
from gitops_mvd.status.notice_text import Message
from gitops_mvd.status.notices import LONG_SECONDS
from gitops_mvd.status.notifier import Notifier
from gitops_mvd.status.statuses import CommitChange
from tests.contract.receivers import free_port, hanging, mail_server, webhook
from tests.contract.terminal import Terminal
from tests.threads import kept

TOLD = Message("web on h1 failed", "web on h1 failed: <b>http</b> *503* _x_\ncommit 1a2b3c4 Bump", "failure")
SECRET = "TIiajkdnlazkcOXrIdevi7FQ"


def send(url: str, told: Message = TOLD, seconds: float = 30.0) -> None:
    ByApprise(Limits(seconds, file=1 << 20, output=1 << 20))(NotifySettings("x", url=url), told)


# ---- what arrives ----------------------------------------------------------------------------------------------------


def test_a_webhook_gets_the_message_as_it_is() -> None:
    with webhook() as receiver:
        send(f"json://{receiver.at}/hook")
        [(path, body)] = receiver.seen
    assert path == "/hook"
    assert (body["title"], body["message"], body["type"]) == (TOLD.title, TOLD.body, "failure")


def test_ntfy_gets_it_in_its_own_format() -> None:
    with webhook() as receiver:
        send(f"ntfy://{receiver.at}/deploys")
        [(_, body)] = receiver.seen
    assert (body["topic"], body["title"], body["message"]) == ("deploys", TOLD.title, TOLD.body)


def test_a_mail_server_gets_a_mail_whose_text_is_no_markup() -> None:
    with mail_server() as mails:
        send(f"mailto://{mails.at}?from=mvd@example.org&to=ops@example.org&mode=insecure")
        [mail] = mails.taken
    assert str(make_header(decode_header(mail["Subject"]))) == TOLD.title
    assert mail["To"] == "ops@example.org"
    [part] = [part for part in mail.walk() if not part.is_multipart()]
    assert part.get_content_type() == "text/plain", "what an app says is no HTML of the mail"
    assert part.get_payload(decode=True).decode().split() == TOLD.body.split()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("answer", "why"),
    [(403, "Failed to send JSON POST notification: error=403"), (500, "Internal server error., error=500")],
)
def test_a_receiver_that_refuses_is_told_with_its_reason(answer: int, why: str) -> None:
    with webhook() as receiver:
        receiver.answer = answer
        with pytest.raises(Unavailable, match=why):
            send(f"json://{receiver.at}/hook")


def test_a_mailbox_that_is_unknown_is_told() -> None:
    with mail_server() as mails, pytest.raises(Unavailable, match="mail"):
        send(f"mailto://{mails.at}?from=mvd@example.org&to=ops@elsewhere.example&mode=insecure")


def test_a_dead_receiver_is_told_without_its_token_and_without_names_of_a_library() -> None:
    with pytest.raises(Unavailable) as caught:
        send(f"json://127.0.0.1:{free_port()}/services/{SECRET}")
    assert str(caught.value) == (
        "A Connection error occurred sending JSON notification to 127.0.0.1: connection refused"
    )


def test_a_receiver_that_hangs_is_ended() -> None:
    with hanging() as at, pytest.raises(Unavailable, match=r"did not complete in 3 s"):
        send(f"json://{at}/?rto=60", seconds=3.0)


STAND_IN = """
import os

class AppriseAsset:
    def __init__(self, **options): pass

class Apprise:
    def __init__(self, asset): pass
    def add(self, address): return True
    def notify(self, **message):
        {}
        return True

NotifyType = str
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a library in apprise's place that does this when it sends."""

    def put(does: str) -> None:
        (tmp_path / "apprise.py").write_text(STAND_IN.format(does))

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return put


@pytest.mark.parametrize("does", ["print('sent')", "os.system('echo sent')", "os.write(1, b'{')"])
def test_whatever_a_plugin_prints_is_no_part_of_the_answer(plugin: Callable[[str], None], does: str) -> None:
    plugin(does)
    send(f"json://example.com/{SECRET}")


def test_a_process_that_ends_without_an_answer_is_told_in_one_sentence(plugin: Callable[[str], None]) -> None:
    plugin("os._exit(0)")
    with pytest.raises(Unavailable, match=r"^cannot send: the process that sends has ended without an answer$"):
        send(f"json://example.com/{SECRET}")


def test_a_plugin_that_breaks_is_told_without_the_address(plugin: Callable[[str], None]) -> None:
    plugin(f"raise OSError('cannot reach example.com/{SECRET}')")
    with pytest.raises(Unavailable) as caught:
        send(f"json://example.com/{SECRET}")
    assert str(caught.value) == "cannot send: OSError: cannot reach example.com/***"


def test_an_address_that_apprise_does_not_know_is_told_without_it() -> None:
    with pytest.raises(Unavailable) as caught:
        send(f"nosuch://{SECRET}/x")
    assert "apprise does not know such an address" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_address_is_read_anew_from_its_file_and_is_a_secret_from_then_on(tmp_path: Path) -> None:
    file = tmp_path / "url"
    receiver = NotifySettings("file", url_file=str(file))
    with pytest.raises(Unavailable, match=r"cannot read .*url .notify.file.url_file.: No such file"):
        ByApprise()(receiver, TOLD)
    for content in ("", "json://a\njson://b\n"):
        file.write_text(content)
        with pytest.raises(Unavailable, match="must have one line, the address"):
            ByApprise()(receiver, TOLD)
    with webhook() as server:
        file.write_text(f"json://{server.at}/{SECRET}\n")
        ByApprise()(receiver, TOLD)
        assert [path for path, _ in server.seen] == [f"/{SECRET}"]
    assert SECRET not in told_line(f"cannot post to https://hooks.example.com/{SECRET}")


def test_the_daemon_does_not_wait_for_a_receiver_that_hangs_when_it_ends() -> None:
    ends = threading.Event()
    threading.Timer(0.5, ends.set).start()
    with hanging() as at, pytest.raises(Interrupted):
        ByApprise()(NotifySettings("x", url=f"json://{at}/?rto=60"), TOLD, ends.is_set)


# ---- the queue of a receiver -----------------------------------------------------------------------------------------


class Asked:
    """A receiver that takes messages, or refuses them for a reason."""

    def __init__(self) -> None:
        self.why = ""
        self.taken: list[Message] = []
        self.tries = 0

    def __call__(self, receiver: NotifySettings, message: Message, is_ended: Any) -> None:
        self.tries += 1
        if self.why:
            raise Unavailable(self.why)
        self.taken.append(message)


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[Notices]:
    with closing(Notices(tmp_path / "notices.db")) as made:
        yield made


def notice(app: str = "web", what: What = What.FAILED, at: float = 0.0, over: What | None = None) -> Notice:
    return Notice(at, app, what, "http 503", Revision("1a2b3c4", "main", "Bump"), over)


def queue(notices: Notices, *found: Notice, receiver: str = "x") -> None:
    notices.keep({}, [(receiver, it) for it in found])


def test_what_waits_is_one_message_and_gone_when_it_is_taken(notices: Notices) -> None:
    asked = Asked()
    deliveries = Deliveries(NotifySettings("x"), "h1", notices, asked, now=lambda: 60.0)
    assert deliveries.deliver() is None
    queue(notices, notice("web"), notice("db"))
    assert deliveries.deliver() == 0.0
    assert deliveries.deliver() is None
    assert [it.title for it in asked.taken] == ["h1: 2 failed"]
    assert deliveries.state().sent == 1


def test_a_receiver_that_is_down_for_an_hour_gets_one_message_with_what_is_left(notices: Notices) -> None:
    now, asked = [0.0], Asked()
    deliveries = Deliveries(NotifySettings("x"), "h1", notices, asked, now=lambda: now[0])
    asked.why = "connection refused"
    for minute in range(60):
        now[0] = minute * 60.0
        queue(notices, notice(f"app{minute % 3}", at=now[0]))
        queue(notices, notice(f"app{minute % 3}", What.RECOVERED, now[0] + 1, over=What.FAILED))
        deliveries.deliver()
    state = deliveries.state()
    assert (state.waiting, state.dropped, state.failing_since, state.why) == (100, 20, 0.0, "connection refused")
    assert 5 < asked.tries < 20, "later and later"
    asked.why, now[0] = "", 2 * 3600.0
    queue(notices, notice("db", at=now[0]))
    deliveries.deliver()
    [told] = asked.taken
    assert told.title == "h1: 1 failed, 1 recovered, 2 mended"
    assert "20 older notices were dropped" not in told.body
    assert "21 older notices were dropped" in told.body
    state = deliveries.state()
    assert (state.waiting, state.dropped, state.failing_since, state.why) == (0, 0, None, "")


def test_a_queue_never_grows_beyond_its_bound(notices: Notices) -> None:
    for number in range(3 * MOST_WAITING):
        queue(notices, notice(f"app{number}"))
    assert notices.receiver("x").waiting == MOST_WAITING
    assert notices.waiting("x")[0][-1].app == f"app{3 * MOST_WAITING - 1}"


def test_quiet_hours_hold_back_what_is_told_as_one_at_their_end(notices: Notices) -> None:
    now, asked = [2 * 3600.0], Asked()
    night = NotifySettings("x", quiet=Quiet(0, 7 * 60, UTC))
    deliveries = Deliveries(night, "h1", notices, asked, now=lambda: now[0])
    queue(notices, notice("web", at=now[0]), notice("db", at=now[0]))
    queue(notices, notice("db", What.RECOVERED, now[0] + 60, over=What.FAILED))
    assert deliveries.deliver() == 5 * 3600.0
    assert asked.taken == []
    now[0] = 7 * 3600.0
    deliveries.deliver()
    [told] = asked.taken
    assert told.title == "h1: 1 failed, 1 mended"
    assert "db on h1 failed and recovered (02:00 to 02:01)" in told.body


def test_who_asks_for_no_recoveries_is_not_woken_by_what_is_over(notices: Notices) -> None:
    asked = Asked()
    deliveries = Deliveries(NotifySettings("x", on=("failed",)), "h1", notices, asked, now=lambda: 60.0)
    queue(notices, notice("web"), notice("web", What.RECOVERED, 1.0, over=What.FAILED))
    assert deliveries.deliver() == 0.0
    assert deliveries.deliver() is None
    assert asked.taken == []
    assert deliveries.state().sent == 0


def test_a_dead_receiver_holds_up_no_other(notices: Notices) -> None:
    with hanging() as dead, webhook() as alive:
        send_ = ByApprise(Limits(20.0, file=1 << 20, output=1 << 20))
        receivers = [
            Deliveries(NotifySettings("dead", url=f"json://{dead}/?rto=60"), "h1", notices, send_),
            Deliveries(NotifySettings("alive", url=f"json://{alive.at}/"), "h1", notices, send_),
        ]
        queue(notices, notice(), receiver="dead")
        queue(notices, notice(), receiver="alive")
        with kept(receivers[0].run, receivers[0].wake), kept(receivers[1].run, receivers[1].wake):
            until(lambda: len(alive.seen) == 1)
        assert notices.receiver("dead").waiting == 1
        assert notices.receiver("alive").waiting == 0


def test_what_was_told_is_not_told_again_after_a_restart(tmp_path: Path) -> None:
    asked = Asked()
    for start in range(3):
        with closing(Notices(tmp_path / "notices.db")) as notices:
            notifier = made(notices, asked)
            if not start:
                notifier.add_commits([CommitChange(Revision("b", "main", "Bump"), frozenset({"web"}))])
            for _ in range(2):
                notifier.report(report(Operation.ROLLED_BACK), dict)
                notifier.deliver()
    assert [it.title for it in asked.taken] == ["web on h1 failed"]


def test_notices_that_wait_outlive_a_restart_and_receivers_that_are_gone_do_not(tmp_path: Path) -> None:
    asked = Asked()
    with closing(Notices(tmp_path / "notices.db")) as notices:
        queue(notices, notice(), receiver="gone")
        asked.why = "connection refused"
        notifier = made(notices, asked)
        notifier.report(report(Operation.ROLLED_BACK), dict)
        notifier.deliver()
    asked.why = ""
    with closing(Notices(tmp_path / "notices.db")) as notices:
        made(notices, asked).deliver()
        assert notices.receiver("gone").waiting == 0
    assert [it.title for it in asked.taken] == ["web on h1 failed"]


# ---- the server as a whole -------------------------------------------------------------------------------------------


def made(notices: Notices, asked: Asked, now: Any = time.time, on: Sequence[str] = tuple(What)) -> Notifier:
    receiver = NotifySettings("x", on=tuple(on))
    return Notifier(notices, [Deliveries(receiver, "h1", notices, asked, now=now)], now)


def report(operation: Operation = Operation.SUCCEEDED) -> Report:
    outcome = Outcome("web", Sync.SYNCED, Health.HEALTHY, operation, why="" if operation == "Succeeded" else "http 503")
    return Report("h1", Revision("b", "main", "Bump"), (outcome,))


def test_what_concerns_the_server_is_told_when_it_lasts_and_when_it_is_over(notices: Notices) -> None:
    now, asked = [1000.0], Asked()
    notifier = made(notices, asked, lambda: now[0])
    down = ThreadState("monitor", False, 1000.0, "internal error")
    for _ in range(2):
        notifier.miss_git("cannot fetch: timed out")
        notifier.wait("Docker does not answer")
        notifier.threads(lambda: [down])
        notifier.deliver()
        now[0] += LONG_SECONDS
    [told] = asked.taken
    assert told.title == "h1: 1 degraded, 2 waiting"
    assert "the thread monitor of the daemon is down: internal error" in told.body
    notifier.fetched()
    notifier.report(report(), dict)
    notifier.threads(lambda: [replace(down, is_up=True)])
    notifier.deliver()
    assert [it.title for it in asked.taken[1:]] == ["h1: 3 recovered"]


def test_a_commit_that_is_refused_or_cannot_be_read_is_told_once(notices: Notices) -> None:
    asked = Asked()
    notifier = made(notices, asked)
    for _ in range(3):
        notifier.refuse("c" * 40, "commit ccccccc is not signed")
        notifier.deliver()
    assert [it.title for it in asked.taken] == ["h1 failed"]
    notifier.fetched()
    notifier.deliver()
    for _ in range(3):
        notifier.fail(Revision("d" * 40, "main", "Break"), "fleet.yaml:3: unknown key")
        notifier.wait("cannot read revision ddddddd: fleet.yaml:3: unknown key")
        notifier.deliver()
    assert [it.title for it in asked.taken[1:]] == ["h1 recovered", "h1 failed"]
    assert "fleet.yaml:3: unknown key\ncommit ddddddd Break" in asked.taken[2].body
    assert notifier.next_check_in() is None


def test_suspended_and_resumed_are_told_to_whom_asks_for_them(notices: Notices) -> None:
    asked = Asked()
    notifier = made(notices, asked, on=["suspended"])
    for _ in range(2):
        notifier.suspend("disk change, until noon (jane)")
        notifier.deliver()
    notifier.report(report(), dict)
    notifier.deliver()
    assert [it.title for it in asked.taken] == ["h1 is suspended", "h1 is resumed"]
    assert "disk change, until noon (jane)" in asked.taken[0].body


def test_a_disk_that_is_full_holds_up_no_pass_and_loses_nothing(
    notices: Notices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked()
    notifier = made(notices, asked)

    def full(*_: Any) -> None:
        raise Unavailable("cannot use the notices: database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(notices, "keep", full)
        for _ in range(3):
            notifier.report(report(Operation.ROLLED_BACK), dict)
        notifier.deliver()
    assert caplog.text.count("disk is full") == 1
    assert asked.taken == []
    notifier.report(report(Operation.ROLLED_BACK), dict)
    notifier.deliver()
    assert [it.title for it in asked.taken] == ["web on h1 failed"]


def test_garbage_in_the_memory_is_begun_anew(tmp_path: Path) -> None:
    asked = Asked()
    with closing(Notices(tmp_path / "notices.db")) as notices:
        for garbage in ("[1]", "{", '{"matters": 3}', '{"matters": [], "proven": 1, "by": {}, "base": null}'):
            notices.keep({}, [])
            notices._ask("UPDATE memory SET json = ?", garbage)
            notices._ask("INSERT INTO waiting (receiver, json) VALUES ('x', ?)", garbage)
            notifier = made(notices, asked)
            notifier.report(report(Operation.ROLLED_BACK), dict)
            notifier.deliver()
    assert len(asked.taken) == 4


def test_without_receivers_nothing_is_remembered_or_written(tmp_path: Path) -> None:
    notifier = Notifier(Notices(tmp_path / "notices.db"), [])
    notifier.report(report(Operation.ROLLED_BACK), dict)
    notifier.suspend("why")
    notifier.deliver()
    assert not list(tmp_path.iterdir())


# ---- the command -----------------------------------------------------------------------------------------------------


def test_mvd_notify_says_of_each_receiver_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    terminal = Terminal(capsys, config)
    base = {"repository": "/srv/config", "host": "h1", "state": str(tmp_path / "state")}
    with webhook() as alive:
        dead = tmp_path / "pager"
        dead.write_text(f"json://127.0.0.1:{free_port()}/{SECRET}\n")
        receivers = [{"name": "team", "url": f"json://{alive.at}/"}, {"url_file": str(dead)}]
        config.write_text(json.dumps({**base, "notify": receivers}))
        said = terminal.mvd("notify", "--test")
        assert said.code == 1
        assert said.out.splitlines()[1] == "team      sent"
        assert said.out.splitlines()[2].startswith("pager     failed  A Connection error occurred")
        assert SECRET not in said.out
        assert [body["title"] for _, body in alive.seen] == ["h1: test of notifications"]

        assert terminal.mvd("notify", "--test", "team").code == 0
        said = terminal.mvd("notify", "--test", "pager", "--json")
        assert [(row["name"], row["result"]) for row in json.loads(said.out)] == [("pager", "failed")]
        said = terminal.mvd("notify")
        assert (said.code, said.out.splitlines()[1:]) == (
            0,
            ["team      none yet  0 messages", "pager     none yet  0 messages"],
        )
        said = terminal.mvd("notify", "--test", "teem")
        assert (said.code, said.err) == (
            1,
            f"Error: no receiver is called 'teem': there is team, pager, in {config}. See `mvd docs settings`.\n",
        )
        config.write_text(json.dumps(base))
        assert "nobody is notified: set `notify`" in terminal.mvd("notify").err


def until(look: Any, within: float = 30.0) -> None:
    ends = time.monotonic() + within
    while not look():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.05)
